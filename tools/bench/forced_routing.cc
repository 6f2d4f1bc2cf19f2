#include "tools/bench/forced_routing.h"

#include <fmt/core.h>

#include <algorithm>

#include "tools/load_trace.h"

namespace moraine::tools {

Result<ForcedRouting> ForcedRouting::Load(const std::string& path, const ModelShape& shape) {
  MORAINE_ASSIGN_OR_RETURN(const LoadedTrace loaded, LoadTrace(path));
  const RoutingTrace& trace = loaded.routing;
  if (trace.experts != shape.experts || trace.top_k != shape.top_k) {
    return Fail(ErrorKind::kUsage,
                fmt::format("--force-routing {}: {} of {} experts a row; the model runs {} of {}", path,
                            trace.top_k, trace.experts, shape.top_k, shape.experts));
  }
  ForcedRouting forced;
  forced.first_layer_ = static_cast<int32_t>(shape.dense_layers);
  forced.layers_ = trace.layers;
  forced.top_k_ = trace.top_k;
  const auto k = static_cast<size_t>(trace.top_k);
  const auto row_size = static_cast<size_t>(trace.layers) * k;
  for (const RoutingTrace::Step& step : trace.steps) {
    const size_t first = forced.choices_.size();
    forced.choices_.resize(first + static_cast<size_t>(step.rows) * row_size);
    for (const RoutingTrace::Layer& layer : step.layers) {
      const auto chosen = trace.Chosen(step, layer);
      for (size_t row = 0; row < static_cast<size_t>(step.rows); ++row) {
        std::copy_n(
            chosen.begin() + static_cast<std::ptrdiff_t>(row * k), k,
            forced.choices_.begin() +
                static_cast<std::ptrdiff_t>(first + row * row_size + static_cast<size_t>(layer.layer) * k));
      }
    }
    forced.rows_ += step.rows;
  }
  if (forced.rows_ == 0)
    return Fail(ErrorKind::kUsage, fmt::format("--force-routing {}: the trace has no rows", path));
  return forced;
}

void ForcedRouting::Apply(LayerId layer, Routing* routing) {
  if (layer.value == first_layer_) {
    step_row_ = next_row_;
    next_row_ = (next_row_ + routing->rows) % rows_;
  }
  const auto k = static_cast<size_t>(top_k_);
  const auto at_layer = static_cast<size_t>((layer.value - first_layer_) % layers_);
  given_.resize(static_cast<size_t>(routing->rows) * k);
  for (int32_t t = 0; t < routing->rows; ++t) {
    const auto row = static_cast<size_t>((step_row_ + t) % rows_);
    const auto from = (row * static_cast<size_t>(layers_) + at_layer) * k;
    std::copy_n(choices_.begin() + static_cast<std::ptrdiff_t>(from), k,
                given_.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(t) * k));
  }
  routing->experts = given_.data();
}

}  // namespace moraine::tools
