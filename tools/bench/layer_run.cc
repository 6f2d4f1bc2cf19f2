#include "tools/bench/layer_run.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "runtime/core/check.h"
#include "tools/bench/read_bandwidth.h"

namespace moraine::tools {

ModelShape LayerShape(const ExpertSize& size, int32_t top_k) {
  ModelShape shape;
  shape.hidden = size.hidden;
  shape.expert_inter = size.inner;
  shape.experts = 256;
  shape.top_k = top_k;
  return shape;
}

LayerRun::LayerRun(const ExpertBank& bank, const ExpertSize& size, int32_t top_k, int32_t rows)
    : bank_(bank), size_(size), n_(rows) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  inputs_.resize(static_cast<size_t>(rows * size.hidden));
  for (float& value : inputs_) value = normal(random);
  rows_.resize(static_cast<size_t>(rows));
  std::iota(rows_.begin(), rows_.end(), 0);
  gains_.assign(static_cast<size_t>(rows), 0.3f);
  order_.resize(static_cast<size_t>(bank.count()));
  std::iota(order_.begin(), order_.end(), 0);
  std::shuffle(order_.begin(), order_.end(), random);
  work_.resize(static_cast<size_t>(top_k));
}

LayerTimes LayerRun::Run(Experts& experts, double seconds) {
  LayerTimes times;
  const double start = tools::Seconds();
  do {
    for (size_t k = 0; k < work_.size(); ++k) {
      work_[k] = {.expert = ExpertId{static_cast<int32_t>(k)},
                  .slices = bank_.expert(order_[next_]),
                  .rows = rows_,
                  .gains = gains_,
                  .ready = {}};
      next_ = (next_ + 1) % order_.size();
    }
    const auto sum = experts.Run({.layer = LayerId{0}, .rows = n_, .inputs = inputs_.data(), .work = work_});
    MORAINE_CHECK(sum.has_value());
    MORAINE_CHECK(std::abs(sum->values[0]) < 1e30f);
    ++times.layers;
    times.seconds = tools::Seconds() - start;
  } while (times.seconds < seconds);
  const double ran = static_cast<double>(times.layers) * static_cast<double>(work_.size());
  times.bytes = ran * static_cast<double>(bank_.expert_bytes());
  times.flops = ran * n_ * 6.0 * static_cast<double>(size_.hidden) * static_cast<double>(size_.inner);
  return times;
}

}  // namespace moraine::tools
