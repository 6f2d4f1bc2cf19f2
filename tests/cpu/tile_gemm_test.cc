// cpu/gemm/tile_gemm.h: every product against double arithmetic, and against itself for the promise that only
// depth sets the order of a sum. Under ONEDNN_MAX_CPU_ISA this runs again for older CPUs (CMakeLists.txt).
#include "cpu/gemm/tile_gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "runtime/core/quant_format.h"
#include "tests/support/compare.h"
#include "tests/support/matrix.h"

namespace moraine {
namespace {

using test::RandomVector;

template <typename T>
struct Aligned {
  explicit Aligned(size_t count) : storage(count + 64 / sizeof(T)) {
    data = storage.data();
    while (reinterpret_cast<uintptr_t>(data) % 64 != 0) ++data;
  }
  std::vector<T> storage;
  T* data;
};

float Rounded(GemmType type, float value) {
  return type == GemmType::kF32 ? value : Bf16ToF32(F32ToBf16(value));
}

void Store(GemmType type, std::byte* at, int64_t index, float value) {
  if (type == GemmType::kF32) {
    std::memcpy(at + 4 * index, &value, 4);
  } else {
    const uint16_t bits = F32ToBf16(value);
    std::memcpy(at + 2 * index, &bits, 2);
  }
}

// C[rows][width] for weights w [rows, depth] and activations x [width, depth], both as rows of f32.
std::vector<float> Product(TileGemm& gemm, int64_t rows, int64_t depth, int64_t width,
                           const std::vector<float>& w, const std::vector<float>& x,
                           const std::vector<float>* before = nullptr) {
  const GemmType type = gemm.type();
  const auto size = [](int64_t n) { return static_cast<size_t>(n); };
  Aligned<std::byte> a(size(rows * depth * Bytes(type)));
  Aligned<std::byte> b(size(depth * width * Bytes(type)));
  Aligned<float> c(size(rows * width));
  for (int64_t i = 0; i < rows * depth; ++i) Store(type, a.data, i, w[size(i)]);
  for (int64_t t = 0; t < width; ++t) {
    for (int64_t k = 0; k < depth; ++k) {
      const int64_t at = type == GemmType::kF32 ? k * width + t : (k / 2 * width + t) * 2 + k % 2;
      Store(type, b.data, at, x[size(t * depth + k)]);
    }
  }
  for (int64_t i = 0; i < rows * width; ++i)
    c.data[i] = before == nullptr ? std::nanf("") : (*before)[size(i)];
  gemm.Run(rows, depth, width, before != nullptr, a.data, b.data, c.data, 0);
  return {c.data, c.data + rows * width};
}

class TileGemmTest : public ::testing::TestWithParam<GemmType> {
 protected:
  void SetUp() override {
    auto made = TileGemm::Create(GemmIsa::kAny, 1, GetParam());
    if (!made.has_value()) GTEST_SKIP() << made.error().message;
    gemm = *std::move(made);
  }
  std::unique_ptr<TileGemm> gemm;
};

TEST_P(TileGemmTest, IsWithinTheBoundAndAdds) {
  for (const int64_t depth : {32, 96, 512, 1024}) {
    ASSERT_TRUE(gemm->Prepare(64, depth).has_value());
    for (const int64_t width : gemm->Widths()) {
      const auto w = RandomVector(64 * depth, 1);
      const auto x = RandomVector(width * depth, 2);
      const auto before = RandomVector(64 * width, 3);
      const auto c = Product(*gemm, 64, depth, width, w, x);
      const auto added = Product(*gemm, 64, depth, width, w, x, &before);
      for (int64_t r = 0; r < 64; ++r) {
        for (int64_t t = 0; t < width; ++t) {
          double sum = 0;
          double magnitude = 0;
          for (int64_t k = 0; k < depth; ++k) {
            const double term =
                static_cast<double>(Rounded(GetParam(), w[static_cast<size_t>(r * depth + k)])) *
                static_cast<double>(Rounded(GetParam(), x[static_cast<size_t>(t * depth + k)]));
            sum += term;
            magnitude += std::fabs(term);
          }
          const auto i = static_cast<size_t>(r * width + t);
          ASSERT_LE(std::fabs(static_cast<double>(c[i]) - sum), test::DotBound(depth) * magnitude);
          ASSERT_LE(std::fabs(static_cast<double>(added[i] - before[i]) - sum),
                    test::DotBound(depth) * (magnitude + std::fabs(static_cast<double>(before[i]))));
        }
      }
    }
  }
}

// A row of a step gets the same bits however many come with it, wherever they put it in a panel.
TEST_P(TileGemmTest, OnlyDepthSetsTheOrderOfASum) {
  const std::vector<int64_t> row_counts =
      gemm->any_shape() ? std::vector<int64_t>{32, 64, 128} : std::vector<int64_t>{64};
  const int64_t most = row_counts.back();
  const int64_t widest = gemm->Widths().back();
  for (const int64_t depth : {64, 512, 1024}) {
    for (const int64_t rows : row_counts) ASSERT_TRUE(gemm->Prepare(rows, depth).has_value());
    const auto w = RandomVector(most * depth, 1);
    const auto x = RandomVector(widest * depth, 2);
    const auto all = Product(*gemm, most, depth, widest, w, x);
    for (const int64_t rows : row_counts) {
      for (const int64_t width : gemm->Widths()) {
        // The last rows of the weights first, and the last columns in turned order.
        const std::vector<float> some(w.end() - rows * depth, w.end());
        std::vector<float> columns;
        for (int64_t t = widest - 1; t >= widest - width; --t)
          columns.insert(columns.end(), x.begin() + t * depth, x.begin() + (t + 1) * depth);
        const auto part = Product(*gemm, rows, depth, width, some, columns);
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t t = 0; t < width; ++t) {
            ASSERT_EQ(part[static_cast<size_t>(r * width + t)],
                      all[static_cast<size_t>((most - rows + r) * widest + widest - 1 - t)])
                << "depth " << depth << " rows " << rows << " width " << width;
          }
        }
      }
    }
  }
}

TEST_P(TileGemmTest, NoProductIsOneDnnsReference) {
  ASSERT_TRUE(gemm->Prepare(128, 1024).has_value());
  ASSERT_TRUE(gemm->Prepare(128, 512).has_value());
  const auto uses = gemm->Uses();
  ASSERT_EQ(uses.size(), 2 * 2 * gemm->Widths().size());
  for (const GemmUse& use : uses) {
    EXPECT_NE(use.implementation.rfind("ref", 0), 0u) << use.implementation;
    EXPECT_EQ(use.calls, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, TileGemmTest, ::testing::Values(GemmType::kF32, GemmType::kBf16),
                         [](const auto& type) { return type.param == GemmType::kF32 ? "f32" : "bf16"; });

}  // namespace
}  // namespace moraine
