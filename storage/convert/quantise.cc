#include "storage/convert/quantise.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "runtime/core/check.h"
#include "runtime/core/quant_format.h"

namespace moraine {
namespace {

constexpr std::array kDivisors4 = {7.f, 7.25f, 7.5f, 8.f, 8.5f, 9.f, 9.5f, 10.f, 10.5f};
constexpr std::array kDivisors8 = {127.f};

// Nearest integer, ties to even, for |x| below 2^22: adding this constant leaves no bits for a fraction.
// Unlike std::nearbyint it compiles to vectors on any x86-64.
float Nearest(float x) {
  constexpr float kShift = 12582912.f;  // 1.5 x 2^23
  return (x + kShift) - kShift;
}

float Code(float value, float inverse, float half) {
  return std::clamp(Nearest(value * inverse), -half, half - 1);
}

float SquaredError(std::span<const float> values, float scale, float half) {
  const float inverse = 1.f / scale;
  float sum = 0.f;
  for (const float value : values) {
    const float error = value - scale * Code(value, inverse, half);
    sum += error * error;
  }
  return sum;
}

uint16_t BestScale(std::span<const float> values, float largest, std::span<const float> divisors,
                   float half) {
  uint16_t best = 0;
  float least = std::numeric_limits<float>::infinity();
  for (const float divisor : divisors) {
    const uint16_t scale = F32ToBf16(largest / divisor);
    if (Bf16ToF32(scale) < std::numeric_limits<float>::min()) continue;  // too small to divide by
    const float error = divisors.size() == 1 ? 0.f : SquaredError(values, Bf16ToF32(scale), half);
    if (!(error < least)) continue;
    least = error;
    best = scale;
  }
  return best != 0 ? best : F32ToBf16(1.f);
}

}  // namespace

bool QuantiseRow(std::span<const float> row, int bits, int64_t group, std::span<std::byte> codes,
                 std::span<uint16_t> scales) {
  MORAINE_CHECK(bits == 4 || bits == 8);
  const auto size = static_cast<size_t>(group);
  MORAINE_CHECK(size > 0 && row.size() % size == 0 && scales.size() == row.size() / size);
  const float half = bits == 4 ? float{kInt4Zero} : float{kInt8Zero};
  const std::span<const float> divisors = bits == 4 ? std::span<const float>(kDivisors4) : kDivisors8;
  for (size_t g = 0; g < scales.size(); ++g) {
    const std::span<const float> values = row.subspan(g * size, size);
    float largest = 0.f;
    for (const float value : values) {
      // Squared errors of a group must not overflow.
      if (!(std::fabs(value) < 1e15f)) return false;
      largest = std::max(largest, std::fabs(value));
    }
    scales[g] = BestScale(values, largest, divisors, half);
    const float inverse = 1.f / Bf16ToF32(scales[g]);
    for (size_t i = 0; i < size; ++i) {
      const auto code = static_cast<uint8_t>(Code(values[i], inverse, half) + half);
      const size_t c = g * size + i;
      if (bits == 8) {
        codes[c] = std::byte{code};
      } else {
        codes[c / 2] |= std::byte(code << (4 * (c % 2)));
      }
    }
  }
  return true;
}

}  // namespace moraine
