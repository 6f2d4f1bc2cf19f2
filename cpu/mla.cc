#include "cpu/mla.h"

#include <algorithm>
#include <limits>

#include "cpu/product.h"
#include "cpu/vector_ops.h"

namespace moraine {
namespace {

// Heads that share one decoded tile in absorbed form, and positions per tile: 16 x 576 f32 = 36 KiB for R1.
constexpr int64_t kHeadBlock = 8;
constexpr int64_t kAbsorbedTile = 16;
// Positions expanded at a time: 64 x (192 + 128) f32 = 80 KiB for R1.
constexpr int64_t kExpandedTile = 64;

MatView F32View(const float* data, int64_t rows, int64_t columns, int64_t stride) {
  return {.data = reinterpret_cast<const std::byte*>(data),
          .format = WeightFormat::kF32,
          .rows = rows,
          .columns = columns,
          .row_bytes = stride * static_cast<int64_t>(sizeof(float))};
}

void ScaledAdd(float* acc, float keep, const float* added, int64_t count) {
  for (int64_t i = 0; i < count; ++i) acc[i] = acc[i] * keep + added[i];
}

}  // namespace

struct LatentAttention::Call {
  const KernelSet& kernels;
  const MatView& kv_b;
  LayerId layer;
  const KvPages& cache;
  const float* queries;
  float* out;
};

struct LatentAttention::Scratch {
  Scratch(const ModelShape& s, int32_t max_rows)
      : tile(static_cast<size_t>(kExpandedTile * s.kv_values())),
        keys(static_cast<size_t>(kExpandedTile * s.qk_head())),
        values(static_cast<size_t>(kExpandedTile * s.v_head)),
        queries(static_cast<size_t>(std::max(kHeadBlock * s.kv_values(), max_rows * s.qk_head()))),
        scores(static_cast<size_t>(std::max<int64_t>(kHeadBlock, max_rows) * kExpandedTile)),
        sums(static_cast<size_t>(std::max(kHeadBlock * s.kv_lora, max_rows * s.v_head))),
        added(static_cast<size_t>(std::max(s.kv_lora, s.v_head))),
        maximum(static_cast<size_t>(std::max<int64_t>(kHeadBlock, max_rows))),
        weight(maximum.size()),
        x(std::max<int64_t>(std::max<int64_t>(kHeadBlock, max_rows), kExpandedTile)),
        y(std::max<int64_t>(std::max<int64_t>(kHeadBlock, max_rows), kExpandedTile)) {}

  void Start(int64_t count, int64_t width) {
    std::fill_n(maximum.begin(), count, -std::numeric_limits<float>::infinity());
    std::fill_n(weight.begin(), count, 0.f);
    std::fill_n(sums.begin(), count * width, 0.f);
  }

  std::vector<float> tile;     // decoded cache rows [positions, R+P]
  std::vector<float> keys;     // expanded [positions, nope+P]
  std::vector<float> values;   // expanded [positions, v_head]
  std::vector<float> queries;  // scaled copies
  std::vector<float> scores;   // [rows or heads, positions of a tile]
  std::vector<float> sums;     // running weighted sums
  std::vector<float> added;
  std::vector<float> maximum;  // running softmax maximum
  std::vector<float> weight;   // and sum of exponentials
  RowPointers x;
  RowPointers y;
};

LatentAttention::LatentAttention(const ModelShape& shape, int threads, int32_t max_rows)
    : shape_(shape), scale_(SoftmaxScale(shape)) {
  scratch_.reserve(static_cast<size_t>(threads));
  for (int i = 0; i < threads; ++i) scratch_.emplace_back(shape, max_rows);
}

LatentAttention::~LatentAttention() = default;

double LatentAttention::ScratchValues(const ModelShape& s, int32_t max_rows) {
  const double rows = static_cast<double>(std::max<int64_t>(kHeadBlock, max_rows));
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  // The members of Scratch, in their order; queries and sums at their larger use.
  return static_cast<double>(kExpandedTile) * number(s.kv_values() + s.qk_head() + s.v_head) +
         std::max(static_cast<double>(kHeadBlock) * number(s.kv_values()), rows * number(s.qk_head())) +
         rows * (kExpandedTile + 6) +
         std::max(static_cast<double>(kHeadBlock) * number(s.kv_lora), rows * number(s.v_head)) +
         number(std::max(s.kv_lora, s.v_head));
}

void LatentAttention::Run(WorkerPool& pool, const KernelSet& kernels, const MatView& kv_b, LayerId layer,
                          const KvPages& cache, std::span<const SequenceRows> sequences, const float* queries,
                          float* out) {
  const Call call{kernels, kv_b, layer, cache, queries, out};
  const int64_t blocks = (shape_.heads + kHeadBlock - 1) / kHeadBlock;
  for (const SequenceRows& sequence : sequences) {
    if (sequence.mode == AttentionMode::kExpanded) {
      pool.ParallelFor(shape_.heads, [&](int64_t head, int worker) {
        ExpandedTask(call, sequence, head, scratch_[static_cast<size_t>(worker)]);
      });
    } else {
      pool.ParallelFor(sequence.rows * blocks, [&](int64_t task, int worker) {
        AbsorbedTask(call, sequence, static_cast<int32_t>(task / blocks), task % blocks,
                     scratch_[static_cast<size_t>(worker)]);
      });
    }
  }
}

// One row, a few heads: queries move into the latent space, scores and sums run over the cache as it is
// stored.
void LatentAttention::AbsorbedTask(const Call& call, const SequenceRows& sequence, int32_t row,
                                   int64_t head_block, Scratch& s) const {
  const int64_t latent = shape_.kv_lora;
  const int64_t width = shape_.kv_values();
  const int64_t head_rows = shape_.qk_nope + shape_.v_head;
  const int64_t first = head_block * kHeadBlock;
  const int64_t heads = std::min<int64_t>(kHeadBlock, shape_.heads - first);
  const int64_t positions = sequence.first_position + row + 1;
  const int64_t step_row = sequence.first_row + row;

  for (int64_t h = 0; h < heads; ++h) {
    const float* query = call.queries + (step_row * shape_.heads + first + h) * shape_.qk_head();
    float* absorbed = s.queries.data() + h * width;
    const MatView up_k = call.kv_b.Rows((first + h) * head_rows, (first + h) * head_rows + shape_.qk_nope);
    call.kernels.Transposed(up_k.format)(up_k, query, absorbed);
    std::copy_n(query + shape_.qk_nope, shape_.qk_rope, absorbed + latent);
    for (int64_t i = 0; i < width; ++i) absorbed[i] *= scale_;
  }
  s.Start(heads, latent);
  float* const* x = s.x.Fill(s.queries.data(), width, heads);
  float* const* y = s.y.Fill(s.scores.data(), kAbsorbedTile, heads);
  for (int64_t begin = 0; begin < positions; begin += kAbsorbedTile) {
    const int64_t count = std::min(kAbsorbedTile, positions - begin);
    call.cache.Load(call.layer, sequence.pages, begin, count, s.tile.data());
    call.kernels.Dot(WeightFormat::kF32)(F32View(s.tile.data(), count, width, width), 0, count, x, heads, y);
    const MatView latents = F32View(s.tile.data(), count, latent, width);
    for (int64_t h = 0; h < heads; ++h) {
      const auto i = static_cast<size_t>(h);
      const float keep = SoftmaxStep(call.kernels.exp_sum, std::span(y[h], static_cast<size_t>(count)),
                                     &s.maximum[i], &s.weight[i]);
      call.kernels.Transposed(WeightFormat::kF32)(latents, y[h], s.added.data());
      ScaledAdd(s.sums.data() + h * latent, keep, s.added.data(), latent);
    }
  }
  for (int64_t h = 0; h < heads; ++h) {
    float* sum = s.sums.data() + h * latent;
    for (int64_t i = 0; i < latent; ++i) sum[i] /= s.weight[static_cast<size_t>(h)];
    const int64_t v_begin = (first + h) * head_rows + shape_.qk_nope;
    float* result = call.out + (step_row * shape_.heads + first + h) * shape_.v_head;
    call.kernels.Dot(call.kv_b.format)(call.kv_b.Rows(v_begin, v_begin + shape_.v_head), 0, shape_.v_head,
                                       &sum, 1, &result);
  }
}

// One head, all new rows of a sequence: K and V of a tile are expanded once and serve every row.
void LatentAttention::ExpandedTask(const Call& call, const SequenceRows& sequence, int64_t head,
                                   Scratch& s) const {
  const int64_t width = shape_.kv_values();
  const int64_t key_width = shape_.qk_head();
  const int64_t value_width = shape_.v_head;
  const int64_t k_begin = head * (shape_.qk_nope + value_width);
  const MatView up_k = call.kv_b.Rows(k_begin, k_begin + shape_.qk_nope);
  const MatView up_v = call.kv_b.Rows(k_begin + shape_.qk_nope, k_begin + shape_.qk_nope + value_width);
  const DotFn expand = call.kernels.Dot(call.kv_b.format);

  for (int64_t t = 0; t < sequence.rows; ++t) {
    const float* query = call.queries + ((sequence.first_row + t) * shape_.heads + head) * key_width;
    for (int64_t i = 0; i < key_width; ++i)
      s.queries[static_cast<size_t>(t * key_width + i)] = query[i] * scale_;
  }
  s.Start(sequence.rows, value_width);
  const int64_t positions = sequence.first_position + sequence.rows;
  for (int64_t begin = 0; begin < positions; begin += kExpandedTile) {
    const int64_t count = std::min(kExpandedTile, positions - begin);
    call.cache.Load(call.layer, sequence.pages, begin, count, s.tile.data());
    float* const* latents = s.x.Fill(s.tile.data(), width, count);
    expand(up_k, 0, shape_.qk_nope, latents, count, s.y.Fill(s.keys.data(), key_width, count));
    expand(up_v, 0, value_width, latents, count, s.y.Fill(s.values.data(), value_width, count));
    for (int64_t p = 0; p < count; ++p) {
      std::copy_n(s.tile.data() + p * width + shape_.kv_lora, shape_.qk_rope,
                  s.keys.data() + p * key_width + shape_.qk_nope);
    }
    // Rows before the tile's first position see none of it.
    const int64_t first = std::max<int64_t>(0, begin - sequence.first_position);
    const int64_t rows = sequence.rows - first;
    float* const* scores = s.y.Fill(s.scores.data(), kExpandedTile, rows);
    call.kernels.Dot(WeightFormat::kF32)(F32View(s.keys.data(), count, key_width, key_width), 0, count,
                                         s.x.Fill(s.queries.data() + first * key_width, key_width, rows),
                                         rows, scores);
    for (int64_t t = first; t < sequence.rows; ++t) {
      const int64_t visible = std::min(count, sequence.first_position + t + 1 - begin);
      float* row_scores = scores[t - first];
      const auto i = static_cast<size_t>(t);
      const float keep =
          SoftmaxStep(call.kernels.exp_sum, std::span(row_scores, static_cast<size_t>(visible)),
                      &s.maximum[i], &s.weight[i]);
      call.kernels.Transposed(WeightFormat::kF32)(F32View(s.values.data(), visible, value_width, value_width),
                                                  row_scores, s.added.data());
      ScaledAdd(s.sums.data() + t * value_width, keep, s.added.data(), value_width);
    }
  }
  for (int64_t t = 0; t < sequence.rows; ++t) {
    float* result = call.out + ((sequence.first_row + t) * shape_.heads + head) * value_width;
    for (int64_t i = 0; i < value_width; ++i) {
      result[i] = s.sums[static_cast<size_t>(t * value_width + i)] / s.weight[static_cast<size_t>(t)];
    }
  }
}

}  // namespace moraine
