// runtime/core/quant_format.h: exact decoders, rounding encoders, rows of a matrix with block scales.
#include "runtime/core/quant_format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "runtime/core/mat_view.h"

namespace moraine {
namespace {

// The value of an e4m3 pattern from its definition: sign, 4 exponent bits with bias 7, 3 mantissa bits.
double E4M3ByDefinition(int bits) {
  const int exponent = (bits >> 3) & 15;
  const int mantissa = bits & 7;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return (bits & 0x80) != 0 ? -magnitude : magnitude;
}

TEST(Fp8, EveryPatternDecodesToItsDefinition) {
  for (int bits = 0; bits < 256; ++bits) {
    const float value = Fp8E4M3ToF32(static_cast<uint8_t>(bits));
    if ((bits & 0x7F) == 0x7F) {
      EXPECT_TRUE(std::isnan(value)) << bits;
    } else {
      EXPECT_EQ(static_cast<double>(value), E4M3ByDefinition(bits)) << bits;
    }
  }
}

TEST(Fp8, EncodingIsTheNearestValueTiesToEven) {
  for (int i = -6000; i <= 6000; ++i) {
    const float value = std::ldexp(static_cast<float>(i), -10) * (1 + std::abs(i) % 97);
    if (std::fabs(value) > 448.f) continue;
    const uint8_t got = F32ToFp8E4M3(value);
    double best = std::numeric_limits<double>::infinity();
    for (int bits = 0; bits < 256; ++bits) {
      if ((bits & 0x7F) != 0x7F)
        best = std::min(best, std::fabs(E4M3ByDefinition(bits) - static_cast<double>(value)));
    }
    const double error = std::fabs(E4M3ByDefinition(got) - static_cast<double>(value));
    ASSERT_EQ(error, best) << value;
    const double next = std::fabs(E4M3ByDefinition(got ^ 1) - static_cast<double>(value));
    if (next == error) {
      ASSERT_EQ(got & 1, 0) << value;
    }
  }
  EXPECT_EQ(F32ToFp8E4M3(1e9f), 0x7E);
  EXPECT_EQ(F32ToFp8E4M3(-1e9f), 0xFE);
  EXPECT_EQ(F32ToFp8E4M3(std::nanf("")) & 0x7F, 0x7F);
}

TEST(Fp8, RoundTripKeepsEveryPattern) {
  for (int bits = 0; bits < 256; ++bits) {
    if ((bits & 0x7F) == 0x7F) continue;
    EXPECT_EQ(F32ToFp8E4M3(Fp8E4M3ToF32(static_cast<uint8_t>(bits))), bits);
  }
}

TEST(F16, EveryPatternDecodesToItsDefinition) {
  for (int bits = 0; bits < 65536; ++bits) {
    const int exponent = (bits >> 10) & 31;
    const int mantissa = bits & 1023;
    const float got = F16ToF32(static_cast<uint16_t>(bits));
    EXPECT_EQ(std::signbit(got), (bits & 0x8000) != 0) << bits;
    if (exponent == 31) {
      EXPECT_TRUE(mantissa == 0 ? std::isinf(got) : std::isnan(got)) << bits;
    } else {
      const double want =
          exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
      EXPECT_EQ(static_cast<double>(std::fabs(got)), want) << bits;
    }
  }
}

TEST(Bf16, RoundsToNearestEvenAndKeepsNan) {
  EXPECT_EQ(F32ToBf16(1.f), 0x3F80);
  EXPECT_EQ(F32ToBf16(std::bit_cast<float>(0x3F808000u)), 0x3F80);  // half way, even below
  EXPECT_EQ(F32ToBf16(std::bit_cast<float>(0x3F818000u)), 0x3F82);  // half way, even above
  EXPECT_EQ(F32ToBf16(std::bit_cast<float>(0x3F808001u)), 0x3F81);
  EXPECT_TRUE(std::isnan(Bf16ToF32(F32ToBf16(std::bit_cast<float>(0x7F800001u)))));
  EXPECT_EQ(F32ToBf16(std::numeric_limits<float>::infinity()), 0x7F80);
}

TEST(F32ToF16, RoundsToNearestAndBackExactly) {
  for (uint32_t bits = 0; bits < 0x7C00; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = F16ToF32(half);
    EXPECT_EQ(F32ToF16(value), half);
    EXPECT_EQ(F32ToF16(-value), half | 0x8000);
    const float next = bits == 0x7BFF ? 65536.f : F16ToF32(static_cast<uint16_t>(bits + 1));
    // Halfway goes to the even one, anything beyond to the nearer.
    const float middle = value + (next - value) / 2;
    EXPECT_EQ(F32ToF16(middle), bits % 2 == 0 ? half : half + 1) << bits;
    EXPECT_EQ(F32ToF16(std::nextafter(middle, 0.f)), half) << bits;
  }
  EXPECT_EQ(F32ToF16(std::numeric_limits<float>::infinity()), 0x7C00);
  EXPECT_EQ(F32ToF16(-1e30f), 0xFC00);
  EXPECT_TRUE(std::isnan(F16ToF32(F32ToF16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST(DecodeRow, BlockScalesFollowTheStoredRowEvenInASlice) {
  // 5 x 7 weights of 1.0 in blocks of 2 x 3: the value read is the scale itself.
  std::vector<uint8_t> bytes(35, 0x38);
  std::vector<float> scales;
  for (int i = 0; i < 9; ++i) scales.push_back(static_cast<float>(i + 1));
  const MatView matrix{.data = reinterpret_cast<const std::byte*>(bytes.data()),
                       .format = WeightFormat::kFp8E4M3Block,
                       .rows = 5,
                       .columns = 7,
                       .row_bytes = 7,
                       .scales = reinterpret_cast<const std::byte*>(scales.data()),
                       .scale_columns = 3,
                       .block_rows = 2,
                       .block_columns = 3};
  std::vector<float> row(7);
  DecodeRow(matrix, 4, row);
  EXPECT_EQ(row, (std::vector<float>{7, 7, 7, 8, 8, 8, 9}));
  const MatView slice = matrix.Rows(1, 4);
  DecodeRow(slice, 0, row);
  EXPECT_EQ(row, (std::vector<float>{1, 1, 1, 2, 2, 2, 3}));
  DecodeRow(slice, 1, row);
  EXPECT_EQ(row, (std::vector<float>{4, 4, 4, 5, 5, 5, 6}));
}

TEST(DecodeRow, IntegerGroupsTakeTheirScaleAndTheirZero) {
  // Two rows of five columns in groups of two; int4 rows take three bytes, the last half empty.
  const std::vector<uint8_t> nibbles = {0x98, 0x0F, 0x07, 0x10, 0x32, 0xF4};
  const std::vector<uint16_t> scales = {0x3F80, 0x4000, 0x4040, 0x3F00, 0x3F80, 0x4000};  // bf16 1 2 3 .5 1 2
  MatView matrix{.data = reinterpret_cast<const std::byte*>(nibbles.data()),
                 .format = WeightFormat::kInt4Group,
                 .rows = 2,
                 .columns = 5,
                 .row_bytes = 3,
                 .scales = reinterpret_cast<const std::byte*>(scales.data()),
                 .scale_type = ScaleType::kBf16,
                 .scale_columns = 3,
                 .block_rows = 1,
                 .block_columns = 2};
  std::vector<float> row(5);
  DecodeRow(matrix, 0, row);
  EXPECT_EQ(row, (std::vector<float>{0, 1, 14, -16, -3}));
  DecodeRow(matrix.Rows(1, 2), 0, row);
  EXPECT_EQ(row, (std::vector<float>{-4, -3.5, -6, -5, -8}));

  const std::vector<uint8_t> zeros = {1, 2, 3, 0, 15, 4};
  matrix.zeros = zeros.data();
  DecodeRow(matrix, 1, row);
  EXPECT_EQ(row, (std::vector<float>{0, .5, -13, -12, 0}));

  const std::vector<uint8_t> bytes = {0, 255, 128, 129, 127};
  matrix.format = WeightFormat::kInt8Group;
  matrix.data = reinterpret_cast<const std::byte*>(bytes.data());
  matrix.row_bytes = 5;
  matrix.zeros = nullptr;
  DecodeRow(matrix, 0, row);
  EXPECT_EQ(row, (std::vector<float>{-128, 127, 0, 2, -3}));
}

}  // namespace
}  // namespace moraine
