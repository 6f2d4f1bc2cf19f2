// The small operations between products: norms, rotations, running softmax. Plain loops over f32, in a fixed
// order.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpu/kernel_table.h"
#include "runtime/core/model_shape.h"

namespace moraine {

/// out = x / sqrt(mean(x^2) + eps) * gain; sizes equal; out may be x.
void RmsNorm(std::span<const float> x, std::span<const float> gain, float eps, std::span<float> out);

/// Rotates the pairs (2i, 2i+1) of `values` (P of them) by position * inverse_frequency[i], in place, and
/// scales by the table's amplitude. Queries and keys are stored in this same order, so their products are
/// those of any other order.
void Rotate(const RopeTable& table, int64_t position, std::span<float> values);

/// Turns scores into exponentials of (score - new maximum) and keeps the running softmax of one query:
/// returns the factor by which what was summed before must be scaled. `maximum` starts at -infinity, `sum` at
/// 0.
float SoftmaxStep(ExpSumFn exp_sum, std::span<float> scores, float* maximum, float* sum);

bool AllFinite(std::span<const float> values);

}  // namespace moraine
