// cpu/mla.h: both forms against plain attention in double, and against themselves under other pages, threads
// and chunks.
#include "cpu/mla.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "cpu/gemm/prefill_gemm.h"
#include "tests/support/compare.h"
#include "tests/support/matrix.h"

namespace moraine {
namespace {

using test::Matrix;
using test::RandomVector;

ModelShape Shape() {
  ModelShape s;
  s.heads = 11;  // not a multiple of a head block
  s.kv_lora = 72;
  s.qk_nope = 24;
  s.qk_rope = 8;
  s.v_head = 20;
  return s;
}

enum class Products { kKernels, kGemmF32, kGemm };

// Null where this build or CPU has none.
std::unique_ptr<PrefillGemm> MakeGemm(Products products, int workers) {
  if (products == Products::kKernels) return nullptr;
  auto gemm = PrefillGemm::Create({.f32_only = products == Products::kGemmF32, .workers = workers});
  return gemm.has_value() ? *std::move(gemm) : nullptr;
}

// Positions, their cache, queries for the last `rows` of them.
struct Case {
  Case(int64_t positions_in, int32_t rows_in, int32_t page_tokens,
       WeightFormat format = WeightFormat::kFp8E4M3Block)
      : shape(Shape()),
        positions(positions_in),
        rows(rows_in),
        kv_b(format, shape.heads * (shape.qk_nope + shape.v_head), shape.kv_lora, 5),
        cache_values(RandomVector(positions * shape.kv_values(), 6)),
        queries(RandomVector(positions * shape.heads * shape.qk_head(), 7)) {
    const auto pages_needed = static_cast<int32_t>((positions + page_tokens - 1) / page_tokens);
    cache = *KvPages::Create(
        shape, {.layers = 2, .pages = pages_needed, .page_tokens = page_tokens, .type = KvType::kF32});
    for (int32_t p = pages_needed - 1; p >= 0; --p) pages.emplace_back(p);  // out of order
    const std::span<const float> values(cache_values);
    for (int64_t p = 0; p < positions; ++p) {
      const auto row =
          values.subspan(static_cast<size_t>(p * shape.kv_values()), static_cast<size_t>(shape.kv_values()));
      cache->Store(LayerId{1}, pages, p, row.first(72), row.last(8));
    }
  }

  // Attention of the last `rows` positions, in chunks of `chunk` rows.
  std::vector<float> Run(AttentionMode mode, int threads, int32_t chunk,
                         Products products = Products::kKernels) const {
    WorkerPool pool(threads);
    LatentAttention attention(shape, threads, rows);
    std::vector<float> out(static_cast<size_t>(rows * shape.heads * shape.v_head), std::nanf(""));
    KernelSet kernels = *SelectKernels("auto");
    const std::unique_ptr<PrefillGemm> gemm = MakeGemm(products, threads);
    kernels.gemm = gemm.get();
    if (gemm != nullptr) gemm->Prepare(kv_b.view.format, shape.kv_lora);
    const int64_t first = positions - rows;
    for (int32_t done = 0; done < rows; done += chunk) {
      const SequenceRows sequence{.first_row = 0,
                                  .rows = std::min(chunk, rows - done),
                                  .first_position = first + done,
                                  .pages = pages,
                                  .mode = mode};
      attention.Run(pool, kernels, kv_b.view, LayerId{1}, *cache, {&sequence, 1},
                    queries.data() + (first + done) * shape.heads * shape.qk_head(),
                    out.data() + done * shape.heads * shape.v_head);
    }
    return out;
  }

  // The definition: K and V in full, softmax over the visible positions.
  std::vector<float> Reference() const {
    std::vector<float> out;
    std::vector<float> row(static_cast<size_t>(shape.kv_lora));
    for (int64_t q = positions - rows; q < positions; ++q) {
      for (int64_t h = 0; h < shape.heads; ++h) {
        const float* query = queries.data() + (q * shape.heads + h) * shape.qk_head();
        std::vector<double> weights;
        std::vector<std::vector<double>> values;
        for (int64_t p = 0; p <= q; ++p) {
          const float* c = cache_values.data() + p * shape.kv_values();
          const auto project = [&](int64_t weight_row) {
            DecodeRow(kv_b.view, weight_row, row);
            return std::inner_product(row.begin(), row.end(), c, 0.0);
          };
          double score = 0;
          for (int64_t i = 0; i < shape.qk_nope; ++i) {
            score += static_cast<double>(query[i]) * project(h * 44 + i);
          }
          for (int64_t i = 0; i < shape.qk_rope; ++i) {
            score +=
                static_cast<double>(query[shape.qk_nope + i]) * static_cast<double>(c[shape.kv_lora + i]);
          }
          weights.push_back(std::exp(score * static_cast<double>(SoftmaxScale(shape))));
          values.emplace_back();
          for (int64_t i = 0; i < shape.v_head; ++i) values.back().push_back(project(h * 44 + 24 + i));
        }
        const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
        for (size_t i = 0; i < static_cast<size_t>(shape.v_head); ++i) {
          double value = 0;
          for (size_t p = 0; p < weights.size(); ++p) value += weights[p] / sum * values[p][i];
          out.push_back(static_cast<float>(value));
        }
      }
    }
    return out;
  }

  ModelShape shape;
  int64_t positions;
  int32_t rows;
  Matrix kv_b;
  std::vector<float> cache_values;
  std::vector<float> queries;
  std::unique_ptr<KvPages> cache;
  std::vector<PageId> pages;
};

// f32 sums of at most 200 terms, twice, and exponentials: 1e-5 is some 50 roundings.
constexpr double kBound = 1e-5;

TEST(LatentAttention, BothFormsMatchTheDefinition) {
  for (const WeightFormat format : {WeightFormat::kFp8E4M3Block, WeightFormat::kBf16}) {
    const Case c(150, 9, 64, format);
    const auto want = c.Reference();
    EXPECT_LE(test::RelativeError(c.Run(AttentionMode::kAbsorbed, 2, 9), want), kBound);
    EXPECT_LE(test::RelativeError(c.Run(AttentionMode::kExpanded, 2, 9), want), kBound);
  }
  const Case first(1, 1, 16);
  EXPECT_LE(test::RelativeError(first.Run(AttentionMode::kAbsorbed, 1, 1), first.Reference()), kBound);
}

// More positions than are decoded at a time: what was summed is taken up again.
TEST(LatentAttention, BlocksOfPositionsAddUp) {
  const Case c(1100, 2, 64);
  const auto want = c.Reference();
  for (const Products products : {Products::kKernels, Products::kGemmF32})
    EXPECT_LE(test::RelativeError(c.Run(AttentionMode::kExpanded, 2, 2, products), want), kBound);
}

TEST(LatentAttention, OneDnnExpandsAsTheKernelsDo) {
  if (MakeGemm(Products::kGemm, 1) == nullptr) GTEST_SKIP() << "oneDNN is not used here";
  for (const WeightFormat format : {WeightFormat::kFp8E4M3Block, WeightFormat::kBf16, WeightFormat::kF32}) {
    const Case c(150, 40, 64, format);
    const auto want = c.Reference();
    EXPECT_LE(test::RelativeError(c.Run(AttentionMode::kExpanded, 2, 40, Products::kGemmF32), want), kBound);
    // Scores here deviate by 8, keys and values by 2^-9 of themselves where they were rounded to bf16.
    EXPECT_LE(test::RelativeError(c.Run(AttentionMode::kExpanded, 2, 40, Products::kGemm), want), 0.03);
  }
}

struct Form {
  AttentionMode mode;
  Products products;
};

TEST(LatentAttention, PagesThreadsAndChunksChangeNoBit) {
  for (const auto& [mode, products] : {Form{AttentionMode::kAbsorbed, Products::kKernels},
                                       Form{AttentionMode::kExpanded, Products::kKernels},
                                       Form{AttentionMode::kExpanded, Products::kGemmF32},
                                       Form{AttentionMode::kExpanded, Products::kGemm}}) {
    const auto run = [mode = mode, products = products](int32_t page_tokens, int threads, int32_t chunk) {
      return Case(140, 70, page_tokens).Run(mode, threads, chunk, products);
    };
    const auto want = run(64, 1, 70);
    for (const int32_t page_tokens : {1, 7, 16, 200}) EXPECT_EQ(run(page_tokens, 1, 70), want) << page_tokens;
    for (const int threads : {2, 3}) EXPECT_EQ(run(64, threads, 70), want) << threads;
    for (const int32_t chunk : {1, 13, 64}) EXPECT_EQ(run(64, 2, chunk), want) << chunk;
  }
}

}  // namespace
}  // namespace moraine
