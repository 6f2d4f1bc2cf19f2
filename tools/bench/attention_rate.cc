#include "tools/bench/attention_rate.h"

#include <cmath>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "cpu/kv_pages.h"
#include "cpu/mla.h"
#include "runtime/core/check.h"
#include "runtime/core/quant_format.h"
#include "tools/bench/read_bandwidth.h"

namespace moraine::tools {
namespace {

constexpr int64_t kPositions = 4096;
constexpr int32_t kPageTokens = 64;

ModelShape Shape() {
  ModelShape s;
  s.heads = 128;
  s.kv_lora = 512;
  s.qk_nope = 128;
  s.qk_rope = 64;
  s.v_head = 128;
  return s;
}

std::vector<float> Random(int64_t count, float size) {
  std::mt19937 random(3);
  std::uniform_real_distribution<float> uniform(-size, size);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = uniform(random);
  return values;
}

}  // namespace

Result<double> AttentionRate(WorkerPool& pool, const KernelSet& kernels, double seconds) {
  const ModelShape shape = Shape();
  std::vector<PageId> pages;
  for (int32_t p = 0; p < kPositions / kPageTokens; ++p) pages.emplace_back(p);
  MORAINE_ASSIGN_OR_RETURN(const std::unique_ptr<KvPages> cache,
                           KvPages::Create(shape, {.layers = 1,
                                                   .pages = static_cast<int32_t>(pages.size()),
                                                   .page_tokens = kPageTokens,
                                                   .type = KvType::kBf16}));
  const std::vector<float> row = Random(shape.kv_values() + kPositions, 1);
  const std::span<const float> values(row);
  for (int64_t p = 0; p < kPositions; ++p) {
    const auto at = static_cast<size_t>(p);
    cache->Store(LayerId{0}, pages, p, values.subspan(at, static_cast<size_t>(shape.kv_lora)),
                 values.subspan(at + static_cast<size_t>(shape.kv_lora), static_cast<size_t>(shape.qk_rope)));
  }
  const int64_t head_rows = shape.heads * (shape.qk_nope + shape.v_head);
  std::vector<uint16_t> weights;
  for (const float value : Random(head_rows * shape.kv_lora, 0.05f)) weights.push_back(F32ToBf16(value));
  const MatView kv_b{.data = reinterpret_cast<const std::byte*>(weights.data()),
                     .format = WeightFormat::kBf16,
                     .rows = head_rows,
                     .columns = shape.kv_lora,
                     .row_bytes = RowBytes(WeightFormat::kBf16, shape.kv_lora)};
  const std::vector<float> queries = Random(shape.heads * shape.qk_head(), 1);
  std::vector<float> out(static_cast<size_t>(shape.heads * shape.v_head));
  LatentAttention attention(shape, pool.threads(), 1);
  const SequenceRows sequence{.first_row = 0,
                              .rows = 1,
                              .first_position = kPositions - 1,
                              .pages = pages,
                              .mode = AttentionMode::kAbsorbed};
  const auto run = [&] {
    attention.Run(pool, kernels, kv_b, LayerId{0}, *cache, {&sequence, 1}, queries.data(), out.data());
  };
  run();
  int64_t runs = 0;
  const double start = Seconds();
  double now = start;
  do {
    run();
    ++runs;
    now = Seconds();
  } while (now - start < seconds);
  MORAINE_CHECK(std::isfinite(out[0]));
  const auto flops = static_cast<double>(2 * kPositions * shape.heads * (2 * shape.kv_lora + shape.qk_rope));
  return flops * static_cast<double>(runs) / (now - start);
}

}  // namespace moraine::tools
