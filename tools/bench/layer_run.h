// Layers of random experts through the CPU's kernels, to be timed.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/core/experts.h"
#include "runtime/core/model_shape.h"
#include "tools/bench/expert_bank.h"

namespace moraine::tools {

/// What an Experts of one layer needs to know of its model.
ModelShape LayerShape(const ExpertSize& size, int32_t top_k);

struct LayerTimes {
  int64_t layers = 0;
  double seconds = 0;
  double bytes = 0;                                                         // of weights and scales read
  double flops = 0;                                                         // of the three products
  double Seconds() const { return seconds / static_cast<double>(layers); }  // of one layer
};

/// Layers of `rows` rows that all choose the same `top_k` experts, which change from layer to layer in an
/// order of their own. `bank` outlives it.
class LayerRun {
 public:
  LayerRun(const ExpertBank& bank, const ExpertSize& size, int32_t top_k, int32_t rows);

  /// At least one layer and as many as `seconds` take. Blocks. CHECKs that the results are numbers.
  LayerTimes Run(Experts& experts, double seconds);

 private:
  const ExpertBank& bank_;
  ExpertSize size_;
  int32_t n_;
  std::vector<float> inputs_;
  std::vector<int32_t> rows_;
  std::vector<float> gains_;
  std::vector<int64_t> order_;
  std::vector<ExpertWork> work_;
  size_t next_ = 0;
};

}  // namespace moraine::tools
