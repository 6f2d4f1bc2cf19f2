#include "tools/load_trace.h"

#include <fmt/core.h>

#include <memory>
#include <utility>

#include "runtime/trace/trace_reader.h"

namespace moraine::tools {

Result<LoadedTrace> LoadTrace(const std::string& path) {
  MORAINE_ASSIGN_OR_RETURN(const std::unique_ptr<TraceReader> reader, TraceReader::Open(path));
  const TraceHeader& header = reader->header();
  LoadedTrace loaded{.expert_bytes = header.expert_bytes, .format = header.format};
  RoutingTrace& routing = loaded.routing;
  routing.layers = header.layers;
  routing.experts = header.experts;
  routing.top_k = header.top_k;
  int32_t step_number = 0;
  int32_t rows = 0;  // of the layer so far
  const auto end_layer = [&]() -> Status {
    RoutingTrace::Step& step = routing.steps.back();
    if (step.layers.size() == 1) step.rows = rows;
    if (step.rows == rows) return {};
    return Fail(ErrorKind::kIo,
                fmt::format("trace {}: step {} has {} rows in layer {} and {} in those before", path,
                            step_number, rows, step.layers.back().layer, step.rows));
  };
  while (true) {
    MORAINE_ASSIGN_OR_RETURN(const TraceRow* const row, reader->Next());
    const bool same_step = row != nullptr && !routing.steps.empty() && row->step == step_number;
    const bool same_layer = same_step && row->layer == routing.steps.back().layers.back().layer;
    const Status ended = same_layer || routing.steps.empty() ? Status() : end_layer();
    if (row == nullptr && !ended) routing.steps.pop_back();
    if (row != nullptr) MORAINE_RETURN_IF_ERROR(ended);
    if (row == nullptr) break;
    if (!same_step) routing.steps.emplace_back();
    if (!same_layer) {
      routing.steps.back().layers.push_back({row->layer, routing.chosen.size()});
      rows = 0;
    }
    step_number = row->step;
    ++rows;
    if (row->phase == TracePhase::kPrefill) routing.steps.back().decode = false;
    routing.chosen.insert(routing.chosen.end(), row->experts.begin(), row->experts.end());
  }
  loaded.notice = reader->Notice();
  // A trace that stopped inside a step: its last layer lacked rows (above), or its step lacks layers.
  const size_t steps = routing.steps.size();
  if (steps > 1 &&
      routing.steps[steps - 1].layers.back().layer < routing.steps[steps - 2].layers.back().layer)
    routing.steps.pop_back();
  if (routing.steps.empty()) return Fail(ErrorKind::kIo, fmt::format("trace {}: holds no whole step", path));
  return loaded;
}

}  // namespace moraine::tools
