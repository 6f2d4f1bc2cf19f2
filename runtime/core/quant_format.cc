#include "runtime/core/quant_format.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/core/check.h"
#include "runtime/core/mat_view.h"

namespace moraine {
namespace {

constexpr std::array<FormatInfo, kWeightFormats> kFormats = {{
    {WeightFormat::kF32, "f32", 32, false},
    {WeightFormat::kF16, "f16", 16, false},
    {WeightFormat::kBf16, "bf16", 16, false},
    {WeightFormat::kFp8E4M3Block, "fp8-e4m3-block", 8, true},
    {WeightFormat::kInt8Group, "int8-group", 8, true},
    {WeightFormat::kInt4Group, "int4-group", 4, true},
}};

template <typename T>
T Load(const std::byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

}  // namespace

const FormatInfo& Describe(WeightFormat format) {
  const FormatInfo& info = kFormats.at(static_cast<size_t>(format));
  MORAINE_CHECK(info.format == format);
  return info;
}

bool IsInteger(WeightFormat format) {
  return format == WeightFormat::kInt8Group || format == WeightFormat::kInt4Group;
}

int64_t RowBytes(WeightFormat format, int64_t columns) { return (columns * Describe(format).bits + 7) / 8; }

int64_t ScaleBytes(ScaleType type) { return type == ScaleType::kF32 ? 4 : 2; }

float DecodeScale(ScaleType type, const std::byte* at) {
  switch (type) {
    case ScaleType::kF32:
      return Load<float>(at);
    case ScaleType::kF16:
      return F16ToF32(Load<uint16_t>(at));
    case ScaleType::kBf16:
      return Bf16ToF32(Load<uint16_t>(at));
  }
  return std::numeric_limits<float>::quiet_NaN();
}

float F16ToF32(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t exponent = (bits >> 10) & 0x1Fu;
  const uint32_t mantissa = bits & 0x3FFu;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

float Bf16ToF32(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

float Fp8E4M3ToF32(uint8_t bits) {
  const uint32_t magnitude = bits & 0x7Fu;
  if (magnitude == 0x7F)
    return std::copysign(std::numeric_limits<float>::quiet_NaN(), (bits & 0x80) != 0 ? -1.f : 1.f);
  // The four exponent bits land on f32's lowest ones; 2^120 moves bias 127 to 7, subnormals included.
  const float value = std::bit_cast<float>(magnitude << 20) * 0x1p120f;
  return (bits & 0x80) != 0 ? -value : value;
}

uint16_t F32ToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

uint16_t F32ToF16(float value) {
  const auto sign = static_cast<uint16_t>(std::signbit(value) ? 0x8000 : 0);
  if (std::isnan(value)) return sign | 0x7E00;
  const float magnitude = std::fabs(value);
  if (magnitude >= 65520.f) return sign | 0x7C00;  // halfway to the next power of two and beyond
  const int exponent = std::max(magnitude == 0.f ? -14 : std::ilogb(magnitude), -14);
  const auto steps = static_cast<uint32_t>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));
  // A subnormal holds fewer than 1024 steps; 2048 of them carry into the next exponent by plain addition.
  const uint32_t bits = steps < 1024 ? steps : static_cast<uint32_t>(exponent + 15) * 1024 + (steps - 1024);
  return sign | static_cast<uint16_t>(bits);
}

uint8_t F32ToFp8E4M3(float value) {
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  if (std::isnan(value)) return sign | 0x7F;
  const float magnitude = std::fabs(value);
  if (magnitude >= 448.f) return sign | 0x7E;
  // Below 2^-6 the spacing is 2^-9; above it is the exponent's eighth.
  const int exponent = std::max(magnitude == 0.f ? -6 : std::ilogb(magnitude), -6);
  const auto eighths = static_cast<uint32_t>(std::nearbyint(std::ldexp(magnitude, 3 - exponent)));
  // A subnormal holds fewer than 8 eighths; 16 of them carry into the next exponent by plain addition.
  const uint32_t bits = eighths < 8 ? eighths : static_cast<uint32_t>(exponent + 7) * 8 + (eighths - 8);
  return sign | static_cast<uint8_t>(std::min(bits, 0x7Eu));
}

void DecodeRow(const MatView& matrix, int64_t row, std::span<float> out) {
  MORAINE_CHECK_EQ(static_cast<int64_t>(out.size()), matrix.columns);
  MORAINE_CHECK(row >= 0 && row < matrix.rows);
  const std::byte* bytes = matrix.Row(row);
  const std::byte* scales = matrix.RowScales(row);
  const uint8_t* zeros = matrix.RowZeros(row);
  const auto scale = [&](int64_t c) {
    return DecodeScale(matrix.scale_type, scales + c / matrix.block_columns * ScaleBytes(matrix.scale_type));
  };
  const auto dequantise = [&](int quant, uint8_t middle, int64_t c) {
    const int zero = zeros == nullptr ? middle : zeros[c / matrix.block_columns];
    return static_cast<float>(quant - zero) * scale(c);
  };
  for (int64_t c = 0; c < matrix.columns; ++c) {
    float& value = out[static_cast<size_t>(c)];
    switch (matrix.format) {
      case WeightFormat::kF32:
        value = Load<float>(bytes + 4 * c);
        break;
      case WeightFormat::kF16:
        value = F16ToF32(Load<uint16_t>(bytes + 2 * c));
        break;
      case WeightFormat::kBf16:
        value = Bf16ToF32(Load<uint16_t>(bytes + 2 * c));
        break;
      case WeightFormat::kFp8E4M3Block:
        value = Fp8E4M3ToF32(Load<uint8_t>(bytes + c)) * scale(c);
        break;
      case WeightFormat::kInt8Group:
        value = dequantise(Load<uint8_t>(bytes + c), kInt8Zero, c);
        break;
      case WeightFormat::kInt4Group:
        value = dequantise(Load<uint8_t>(bytes + c / 2) >> (4 * (c % 2)) & 0xF, kInt4Zero, c);
        break;
    }
  }
}

}  // namespace moraine
