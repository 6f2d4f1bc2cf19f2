// storage/convert/quantise.h: nearest codes, bounds on the error, rows that cannot be.
#include "storage/convert/quantise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "runtime/core/mat_view.h"

namespace moraine {
namespace {

struct Quantised {
  Quantised(const std::vector<float>& row, int bits, int64_t group)
      : codes(row.size() * static_cast<size_t>(bits) / 8), scales(row.size() / static_cast<size_t>(group)) {
    ok = QuantiseRow(row, bits, group, codes, scales);
    view = {.data = codes.data(),
            .format = bits == 4 ? WeightFormat::kInt4Group : WeightFormat::kInt8Group,
            .rows = 1,
            .columns = static_cast<int64_t>(row.size()),
            .row_bytes = static_cast<int64_t>(codes.size()),
            .scales = reinterpret_cast<const std::byte*>(scales.data()),
            .scale_type = ScaleType::kBf16,
            .scale_columns = static_cast<int64_t>(scales.size()),
            .block_rows = 1,
            .block_columns = static_cast<int32_t>(group)};
    values.resize(row.size());
    DecodeRow(view, 0, values);
  }
  bool ok = false;
  std::vector<std::byte> codes;
  std::vector<uint16_t> scales;
  MatView view;
  std::vector<float> values;
};

std::vector<float> Normal(size_t size, uint32_t seed, float sigma) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.f, sigma);
  std::vector<float> row(size);
  for (float& value : row) value = normal(random);
  return row;
}

double RootMeanSquare(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i)
    sum += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
  return std::sqrt(sum / static_cast<double>(a.size()));
}

TEST(QuantiseRow, TakesTheNearestCodeOfTheStoredScale) {
  for (const int bits : {4, 8}) {
    for (const int64_t group : {32, 64, 512}) {
      const std::vector<float> row = Normal(512, 7, 0.02f);
      const Quantised q(row, bits, group);
      ASSERT_TRUE(q.ok);
      const int half = bits == 4 ? 8 : 128;
      for (size_t i = 0; i < row.size(); ++i) {
        const float scale = Bf16ToF32(q.scales[i / static_cast<size_t>(group)]);
        // Inside the range no code is nearer; outside it is the last one.
        const bool inside =
            row[i] < scale * static_cast<float>(half - 1) && row[i] > -scale * static_cast<float>(half);
        if (inside) {
          EXPECT_LE(std::fabs(row[i] - q.values[i]), scale * 0.5001f) << bits << ' ' << i;
        } else {
          EXPECT_FLOAT_EQ(q.values[i], scale * static_cast<float>(row[i] > 0 ? half - 1 : -half));
        }
      }
    }
  }
}

// Uniform steps over a normal group of 32: int8 loses 0.6 %, int4 about 10 % of the deviation; the search
// must do better than the plain largest-over-7 does.
TEST(QuantiseRow, LosesWhatTheFormatMust) {
  const std::vector<float> row = Normal(32 * 256, 11, 0.05f);
  EXPECT_LE(RootMeanSquare(row, Quantised(row, 8, 32).values), 0.0065 * 0.05);
  double plain = 0;
  for (size_t g = 0; g < 256; ++g) {
    float largest = 0;
    for (size_t i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(row[32 * g + i]));
    const float scale = Bf16ToF32(F32ToBf16(largest / 7));
    for (size_t i = 0; i < 32; ++i) {
      const float value = row[32 * g + i];
      const float code = std::min(7.f, std::max(-8.f, std::nearbyint(value / scale)));
      plain += std::pow(static_cast<double>(value - code * scale), 2);
    }
  }
  plain = std::sqrt(plain / static_cast<double>(row.size()));
  EXPECT_LE(RootMeanSquare(row, Quantised(row, 4, 32).values), 0.97 * plain);
}

TEST(QuantiseRow, KeepsZerosAndRefusesWhatIsNoNumber) {
  std::vector<float> row(64, 0.f);
  const Quantised zeros(row, 4, 32);
  EXPECT_TRUE(zeros.ok);
  EXPECT_EQ(zeros.values, row);
  EXPECT_EQ(Bf16ToF32(zeros.scales[0]), 1.f);
  row[40] = 1e-39f;  // no BF16 scale divides it: it becomes zero
  EXPECT_TRUE(Quantised(row, 8, 32).ok);
  EXPECT_EQ(Quantised(row, 8, 32).values[40], 0.f);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -1e30f}) {
    row[40] = bad;
    EXPECT_FALSE(Quantised(row, 8, 32).ok);
    EXPECT_FALSE(Quantised(row, 4, 64).ok);
  }
}

}  // namespace
}  // namespace moraine
