#include "cpu/vector_ops.h"

#include <algorithm>
#include <cmath>

namespace moraine {

void RmsNorm(std::span<const float> x, std::span<const float> gain, float eps, std::span<float> out) {
  double squares = 0;
  for (const float value : x) squares += static_cast<double>(value) * static_cast<double>(value);
  const auto scale =
      static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(x.size()) + static_cast<double>(eps)));
  for (size_t i = 0; i < x.size(); ++i) out[i] = x[i] * scale * gain[i];
}

void Rotate(const RopeTable& table, int64_t position, std::span<float> values) {
  for (size_t i = 0; i < table.inverse_frequency.size(); ++i) {
    // The published code forms the angle in f32; so do we, or positions far out would differ.
    const float angle = static_cast<float>(position) * table.inverse_frequency[i];
    const float cosine = std::cos(angle) * table.amplitude;
    const float sine = std::sin(angle) * table.amplitude;
    const float a = values[2 * i];
    const float b = values[2 * i + 1];
    values[2 * i] = a * cosine - b * sine;
    values[2 * i + 1] = b * cosine + a * sine;
  }
}

float SoftmaxStep(ExpSumFn exp_sum, std::span<float> scores, float* maximum, float* sum) {
  const float before = *maximum;
  *maximum = std::max(before, *std::max_element(scores.begin(), scores.end()));
  const float rescale = std::exp(before - *maximum);
  *sum = *sum * rescale + exp_sum(scores.data(), static_cast<int64_t>(scores.size()), *maximum);
  return rescale;
}

bool AllFinite(std::span<const float> values) {
  // x - x is 0 for finite x and NaN otherwise: one sum instead of a branch per value.
  float sum = 0.f;
  for (const float value : values) sum += value - value;
  return sum == 0.f;
}

}  // namespace moraine
