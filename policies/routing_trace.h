// RoutingTrace: what the steps of a run chose, as plain values: what replays and bounds read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace moraine {

struct RoutingTrace {
  struct Layer {
    int32_t layer = 0;
    size_t first = 0;  // of `chosen`: [rows of the step, top_k]
  };
  struct Step {
    int32_t rows = 0;
    bool decode = true;  // one row a sequence; false: a chunk of a prompt
    std::vector<Layer> layers;
  };

  int32_t layers = 0;
  int32_t experts = 0;
  int32_t top_k = 0;
  std::vector<Step> steps;
  std::vector<int32_t> chosen;

  std::span<const int32_t> Chosen(const Step& step, const Layer& layer) const {
    return std::span(chosen).subspan(layer.first,
                                     static_cast<size_t>(step.rows) * static_cast<size_t>(top_k));
  }
};

}  // namespace moraine
