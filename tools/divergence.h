// How far a model's predictions are from those of another one along the same texts.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/core/result.h"
#include "runtime/engine.h"

namespace moraine::tools {

struct Divergence {
  int64_t positions = 0;
  double kl_sum = 0;  // KL(exact || model), nats
  double kl_most = 0;
  int64_t same_top = 0;  // positions where both would say the same token

  double mean() const { return positions == 0 ? 0 : kl_sum / static_cast<double>(positions); }
};

/// KL(exact || model) of two rows of logits, in nats and in doubles.
double KlOfLogits(std::span<const float> exact, std::span<const float> model);

/// Adds the predictions of ids[first] and of each id after it, given those before. Both engines run the same
/// ids in a new sequence; first >= 1, and the two vocabularies are one.
Status AddDivergence(Engine& exact, Engine& model, std::span<const int32_t> ids, int64_t first,
                     Divergence* sum);

}  // namespace moraine::tools
