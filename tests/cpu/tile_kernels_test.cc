// cpu/gemm/tile_kernels.h: every ISA against DecodeRow, plain packing and double arithmetic.
#include "cpu/gemm/tile_kernels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/core/quant_format.h"
#include "tests/support/matrix.h"

namespace moraine {
namespace {

using test::Matrix;
using test::RandomVector;

struct alignas(64) Line {
  std::byte bytes[64];
};

class TileKernelsTest : public ::testing::TestWithParam<const TileKernels*> {
 protected:
  void SetUp() override {
    if (!CpuRuns(*GetParam())) GTEST_SKIP() << "this CPU has no " << GetParam()->isa;
  }
  const TileKernels& kernels() const { return *GetParam(); }
  bool f32() const { return kernels().type == GemmType::kF32; }
  float Get(const std::byte* at, int64_t index) const {
    if (f32()) {
      float value;
      std::memcpy(&value, at + 4 * index, 4);
      return value;
    }
    uint16_t bits;
    std::memcpy(&bits, at + 2 * index, 2);
    return Bf16ToF32(bits);
  }
  float Rounded(float value) const { return f32() ? value : Bf16ToF32(F32ToBf16(value)); }
  int64_t Place(int64_t k, int64_t t, int64_t width) const {
    return f32() ? k * width + t : (k / 2 * width + t) * 2 + k % 2;
  }
};

int64_t Padded(int64_t columns) { return (columns + 31) / 32 * 32; }

// What fills memory before a call: NaN in every type.
std::vector<Line> Filled(int64_t bytes) {
  Line line;
  std::memset(&line, 0xFF, sizeof line);
  return std::vector<Line>(static_cast<size_t>(bytes / 64 + 1), line);
}

TEST_P(TileKernelsTest, WeightsAreThoseOfDecodeRow) {
  struct Case {
    int64_t rows, columns, row, count, column, width;
    test::MatrixOptions options;
  };
  std::vector<Case> cases = {{5, 7, 0, 5, 0, 7, {}},
                             {130, 300, 3, 127, 0, 300, {}},
                             {9, 1500, 1, 8, 1024, 476, {}},
                             {20, 400, 2, 17, 64, 320, {32}},
                             {40, 333, 1, 39, 32, 301, {100}},
                             {40, 96, 0, 40, 0, 95, {3}},
                             {300, 2048, 100, 128, 1024, 1024, {}}};
  for (const ScaleType scale : {ScaleType::kF32, ScaleType::kF16, ScaleType::kBf16}) {
    for (const bool zeros : {false, true}) {
      cases.push_back({33, 640, 0, 33, 128, 512, {64, scale, zeros}});
      cases.push_back({3, 129, 0, 3, 0, 129, {129, scale, zeros}});
      cases.push_back({7, 200, 1, 6, 0, 200, {32, scale, zeros}});
    }
  }
  for (int f = 0; f < kWeightFormats; ++f) {
    const auto format = static_cast<WeightFormat>(f);
    for (const Case& c : cases) {
      const Matrix w(format, c.rows, c.columns, 7, c.options);
      const int64_t depth = Padded(c.width);
      auto tile = Filled(c.count * depth * 4);
      auto* out = reinterpret_cast<std::byte*>(tile.data());
      kernels().Decode(format)(w.view, {c.row, c.count, c.column, c.width, depth}, out);
      std::vector<float> row(static_cast<size_t>(c.columns));
      for (int64_t r = 0; r < c.count; ++r) {
        DecodeRow(w.view, c.row + r, row);
        for (int64_t k = 0; k < depth; ++k) {
          const float want = k < c.width ? Rounded(row[static_cast<size_t>(c.column + k)]) : 0.f;
          ASSERT_EQ(Get(out, r * depth + k), want)
              << Describe(format).name << " block " << c.options.block << " row " << r << " column " << k;
        }
      }
      ASSERT_TRUE(std::isnan(Get(out, c.count * depth))) << "written past the tile";
    }
  }
}

TEST_P(TileKernelsTest, Fp8CodesAllKeepTheirValueAndNanStaysNan) {
  Matrix w(WeightFormat::kFp8E4M3Block, 4, 256, 1);
  for (int64_t i = 0; i < 4 * 256; ++i) w.bytes[static_cast<size_t>(1 + i)] = static_cast<std::byte>(i % 256);
  auto tile = Filled(4 * 256 * 4);
  auto* out = reinterpret_cast<std::byte*>(tile.data());
  kernels().Decode(WeightFormat::kFp8E4M3Block)(w.view, {0, 4, 0, 256, 256}, out);
  std::vector<float> row(256);
  DecodeRow(w.view, 2, row);
  for (int64_t k = 0; k < 256; ++k) {
    const float want = Rounded(row[static_cast<size_t>(k)]);
    const float got = Get(out, 2 * 256 + k);
    ASSERT_TRUE(std::isnan(want) ? std::isnan(got) : got == want) << k;
    if (!std::isnan(want)) {
      ASSERT_EQ(std::signbit(got), std::signbit(want)) << k;
    }
  }
}

TEST_P(TileKernelsTest, RowsBecomeColumnsOfAPanel) {
  for (const int64_t columns : {1, 15, 17, 31, 32, 33, 200, 1025}) {
    for (const int64_t width : {16, 32, 48, 64}) {
      for (const int64_t n : {width - 15, width - 7, width}) {
        const auto x = RandomVector(n * columns, 3);
        std::vector<const float*> rows;
        for (int64_t t = 0; t < n; ++t) rows.push_back(x.data() + t * columns);
        auto panel = Filled(Padded(columns) * width * 4);
        auto* out = reinterpret_cast<std::byte*>(panel.data());
        kernels().pack(rows.data(), n, columns, width, out);
        for (int64_t k = 0; k < Padded(columns); ++k) {
          for (int64_t t = 0; t < width; ++t) {
            const float want = k < columns && t < n ? Rounded(rows[static_cast<size_t>(t)][k]) : 0.f;
            ASSERT_EQ(Get(out, Place(k, t, width)), want) << columns << " " << width << " " << n;
          }
        }
        ASSERT_TRUE(std::isnan(Get(out, Padded(columns) * width)));
      }
    }
  }
}

TEST_P(TileKernelsTest, SiluIsWithinAFewUnits) {
  const int64_t width = 48;
  for (const int64_t rows : {1, 2, 7, 64}) {
    auto gate_lines = Filled(rows * width * 4);
    auto up_lines = Filled(rows * width * 4);
    auto* gate = reinterpret_cast<float*>(gate_lines.data());
    auto* up = reinterpret_cast<float*>(up_lines.data());
    const auto values = RandomVector(2 * rows * width, 5);
    for (int64_t i = 0; i < rows * width; ++i) {
      gate[i] = values[static_cast<size_t>(i)] * std::exp2(static_cast<float>(i % 12) - 4.f);
      up[i] = values[static_cast<size_t>(rows * width + i)];
    }
    gate[1] = std::numeric_limits<float>::quiet_NaN();
    gate[2] = 100.f;
    gate[3] = 0.f;
    auto panel = Filled((rows + 1) * width * 4 + 64);
    auto* out = reinterpret_cast<std::byte*>(panel.data());
    kernels().silu(gate, up, rows, width, out);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t t = 0; t < width; ++t) {
        const auto g = static_cast<double>(gate[r * width + t]);
        const double want = g / (1 + std::exp(-g)) * static_cast<double>(up[r * width + t]);
        const auto got = static_cast<double>(Get(out, Place(r, t, width)));
        if (std::isnan(want)) {
          ASSERT_TRUE(std::isnan(got));
        } else {
          const double unit = f32() ? 0x1p-21 : 0x1p-8;
          ASSERT_LE(std::fabs(got - want), unit * std::fabs(want) + 1e-35) << g;
        }
      }
    }
    if (!f32() && rows % 2 != 0) {
      ASSERT_EQ(Get(out, Place(rows, 5, width)), 0.f);
    }
  }
}

TEST_P(TileKernelsTest, SumsReachTheirRowsAndNothingElse) {
  for (const int64_t rows : {1, 15, 16, 33, 128}) {
    for (const int64_t width : {16, 64}) {
      const int64_t n = width - 3;
      auto lines = Filled(rows * width * 4);
      auto* c = reinterpret_cast<float*>(lines.data());
      const auto values = RandomVector(rows * width, 1);
      std::memcpy(c, values.data(), values.size() * sizeof(float));
      const auto gains = RandomVector(n, 2);
      const auto before = RandomVector(n * (rows + 1), 3);
      for (const bool add : {false, true}) {
        auto y = before;
        std::vector<float*> at;
        for (int64_t t = 0; t < n; ++t) at.push_back(y.data() + t * (rows + 1));
        kernels().store(c, rows, width, n, add ? gains.data() : nullptr, at.data());
        for (int64_t t = 0; t < n; ++t) {
          for (int64_t r = 0; r < rows; ++r) {
            const auto i = static_cast<size_t>(t * (rows + 1) + r);
            const auto value = static_cast<double>(c[r * width + t]);
            const double want = add ? static_cast<double>(before[i]) +
                                          static_cast<double>(gains[static_cast<size_t>(t)]) * value
                                    : value;
            ASSERT_LE(std::fabs(static_cast<double>(y[i]) - want), 1e-6);
          }
          ASSERT_EQ(at[static_cast<size_t>(t)][rows], before[static_cast<size_t>(t * (rows + 1) + rows)]);
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Table, TileKernelsTest,
                         ::testing::ValuesIn(AllTileKernels().begin(), AllTileKernels().end()),
                         [](const auto& row) {
                           std::string name(row.param->isa);
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name + (row.param->type == GemmType::kF32 ? "_f32" : "_bf16");
                         });

}  // namespace
}  // namespace moraine
