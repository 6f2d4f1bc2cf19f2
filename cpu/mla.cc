#include "cpu/mla.h"

#include <algorithm>
#include <limits>

#include "cpu/gemm/prefill_gemm.h"
#include "cpu/vector_ops.h"

namespace moraine {
namespace {

// Heads that share one decoded tile in absorbed form, and positions per tile: 16 x 576 f32 = 36 KiB for R1.
constexpr int64_t kHeadBlock = 8;
constexpr int64_t kAbsorbedTile = 16;
// Positions expanded at a time: 64 x (192 + 2 x 128) f32 = 112 KiB for R1; rows whose scores are taken at a
// time; and positions decoded at a time, once for all heads: 2.3 MiB for R1 and as much again packed.
constexpr int64_t kExpandedTile = 64;
constexpr int64_t kRowGroup = 64;
constexpr int64_t kBlock = 1024;
static_assert(kBlock % kExpandedTile == 0);

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

// A latent packed in its widest form: f32, padded to whole units.
int64_t PaddedLatent(const ModelShape& s) {
  return (s.kv_lora + TileGemm::kDepthUnit - 1) / TileGemm::kDepthUnit * TileGemm::kDepthUnit;
}

// out [columns, kExpandedTile] from in [rows, columns], zeros for the tile's missing rows.
void Transpose(const float* in, int64_t rows, int64_t columns, float* out) {
  constexpr int64_t kSide = 16;  // of what stays in registers and one cache line a row
  for (int64_t c = 0; c < columns; c += kSide) {
    for (int64_t r = 0; r < kExpandedTile; r += kSide) {
      for (int64_t j = c; j < std::min(c + kSide, columns); ++j) {
        for (int64_t i = r; i < r + kSide; ++i)
          out[j * kExpandedTile + i] = i < rows ? in[i * columns + j] : 0.f;
      }
    }
  }
}

}  // namespace

struct LatentAttention::Call {
  const KernelSet& kernels;
  PrefillGemm* gemm;  // null: the kernels expand
  const MatView& kv_b;
  LayerId layer;
  const KvPages& cache;
  const float* queries;
  float* out;
};

struct LatentAttention::Scratch {
  Scratch(const ModelShape& s, int32_t max_rows)
      : tile(static_cast<size_t>(kAbsorbedTile * s.kv_values())),
        keys(static_cast<size_t>(kExpandedTile * s.qk_head())),
        values(static_cast<size_t>(kExpandedTile * s.v_head)),
        values_across(values.size()),
        queries(static_cast<size_t>(std::max(kHeadBlock * s.kv_values(), max_rows * s.qk_head()))),
        scores(static_cast<size_t>(kRowGroup * kExpandedTile)),
        sums(static_cast<size_t>(std::max(kHeadBlock * s.kv_lora, max_rows * s.v_head))),
        added(static_cast<size_t>(std::max(s.kv_lora, kRowGroup * s.v_head))),
        maximum(static_cast<size_t>(kHeadBlock)),
        weight(maximum.size()),
        keep(static_cast<size_t>(kRowGroup)),
        x(std::max(kRowGroup, kExpandedTile)),
        y(std::max(kRowGroup, kExpandedTile)) {}

  std::vector<float> tile;           // absorbed: decoded cache rows [positions, R+P]
  std::vector<float> keys;           // expanded [positions, nope+P]
  std::vector<float> values;         // expanded [positions, v_head]
  std::vector<float> values_across;  // [v_head, positions]
  std::vector<float> queries;        // scaled copies
  std::vector<float> scores;         // [rows or heads, positions of a tile]
  std::vector<float> sums;           // running weighted sums
  std::vector<float> added;
  std::vector<float> maximum;  // absorbed: running softmax maximum of each head
  std::vector<float> weight;   // and sum of exponentials
  std::vector<float> keep;     // expanded: of a group's rows, what SoftmaxStep returned
  RowPointers x;
  RowPointers y;
};

LatentAttention::LatentAttention(const ModelShape& shape, int threads, int32_t max_rows)
    : shape_(shape),
      scale_(SoftmaxScale(shape)),
      max_rows_(max_rows),
      block_(static_cast<size_t>(kBlock * shape.kv_values())),
      panels_(kBlock * PaddedLatent(shape) * static_cast<int64_t>(sizeof(float))),
      maximum_(static_cast<size_t>(int64_t{shape.heads} * max_rows)),
      weight_(maximum_.size()) {
  scratch_.reserve(static_cast<size_t>(threads));
  for (int i = 0; i < threads; ++i) scratch_.emplace_back(shape, max_rows);
}

LatentAttention::~LatentAttention() = default;

double LatentAttention::ScratchValues(const ModelShape& s, int threads, int32_t max_rows) {
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  const double rows = max_rows;
  // The members of Scratch, in their order; queries and sums at their larger use.
  const double worker = number(kAbsorbedTile) * number(s.kv_values()) +
                        number(kExpandedTile) * number(s.qk_head() + 2 * s.v_head) +
                        std::max(number(kHeadBlock) * number(s.kv_values()), rows * number(s.qk_head())) +
                        number(kRowGroup * kExpandedTile) +
                        std::max(number(kHeadBlock) * number(s.kv_lora), rows * number(s.v_head)) +
                        std::max(number(s.kv_lora), number(kRowGroup) * number(s.v_head)) +
                        6 * number(kRowGroup);
  return threads * worker + number(kBlock) * (number(s.kv_values()) + number(PaddedLatent(s))) +
         2 * rows * s.heads;
}

void LatentAttention::Run(WorkerPool& pool, const KernelSet& kernels, const MatView& kv_b, LayerId layer,
                          const KvPages& cache, std::span<const SequenceRows> sequences, const float* queries,
                          float* out) {
  // Whatever the number of rows: the same bits for any chunk.
  constexpr int64_t kMany = std::numeric_limits<int32_t>::max();
  PrefillGemm* gemm = kernels.gemm != nullptr && kernels.gemm->Takes(kv_b, kMany) ? kernels.gemm : nullptr;
  const Call call{kernels, gemm, kv_b, layer, cache, queries, out};
  const int64_t blocks = (shape_.heads + kHeadBlock - 1) / kHeadBlock;
  for (const SequenceRows& sequence : sequences) {
    if (sequence.mode == AttentionMode::kExpanded) {
      RunExpanded(pool, call, sequence);
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
  std::fill_n(s.maximum.begin(), heads, -std::numeric_limits<float>::infinity());
  std::fill_n(s.weight.begin(), heads, 0.f);
  std::fill_n(s.sums.begin(), heads * latent, 0.f);
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

const float* LatentAttention::Latents(int64_t tile) const {
  return block_.data() + tile * kExpandedTile * shape_.kv_values();
}

int64_t LatentAttention::PanelBytes(const Call& call) const {
  return call.gemm->PanelBytes(call.kv_b.format, kExpandedTile, shape_.kv_lora);
}

void LatentAttention::RunExpanded(WorkerPool& pool, const Call& call, const SequenceRows& sequence) {
  const int64_t positions = sequence.first_position + sequence.rows;
  for (int64_t block = 0; block < positions; block += kBlock) {
    const int64_t end = std::min(positions, block + kBlock);
    const int64_t tiles = (end - block + kExpandedTile - 1) / kExpandedTile;
    pool.ParallelFor(tiles, [&](int64_t tile, int worker) {
      const int64_t begin = block + tile * kExpandedTile;
      LoadTile(call, sequence, begin, std::min(kExpandedTile, end - begin), tile,
               scratch_[static_cast<size_t>(worker)]);
    });
    pool.ParallelFor(shape_.heads,
                     [&](int64_t head, int worker) { ExpandedTask(call, sequence, head, block, worker); });
  }
}

// Decodes a tile of the block, once for all heads.
void LatentAttention::LoadTile(const Call& call, const SequenceRows& sequence, int64_t begin, int64_t count,
                               int64_t tile, Scratch& s) {
  const int64_t width = shape_.kv_values();
  float* out = block_.data() + tile * kExpandedTile * width;
  call.cache.Load(call.layer, sequence.pages, begin, count, out);
  if (call.gemm == nullptr) return;
  const float* const* rows = s.x.Fill(out, width, count);
  for (int64_t panel = 0; panel < call.gemm->Panels(call.kv_b.format, count); ++panel)
    call.gemm->Pack(call.kv_b.format, rows, count, shape_.kv_lora, panel,
                    panels_.data() + tile * PanelBytes(call));
}

// out[p] = w latent[p] for the positions of a tile, rows of `out` `stride` apart.
void LatentAttention::Expand(const Call& call, const MatView& w, int64_t tile, int64_t count, float* out,
                             int64_t stride, int worker) {
  Scratch& s = scratch_[static_cast<size_t>(worker)];
  float* const* y = s.y.Fill(out, stride, count);
  if (call.gemm == nullptr) {
    // Read only; the kernels take rows to read and rows to write alike.
    float* latents = const_cast<float*>(Latents(tile));
    call.kernels.Dot(w.format)(w, 0, w.rows, s.x.Fill(latents, shape_.kv_values(), count), count, y);
    return;
  }
  const int64_t rows = call.gemm->TileRows(w.format, w.rows, std::numeric_limits<int32_t>::max(), 1);
  for (int64_t begin = 0; begin < w.rows; begin += rows) {
    call.gemm->Product(w, begin, std::min(begin + rows, w.rows), panels_.data() + tile * PanelBytes(call),
                       count, nullptr, y, 0, worker);
  }
}

// One head, all new rows of a sequence, one block of positions: K and V of a tile are expanded once and serve
// every row.
void LatentAttention::ExpandedTask(const Call& call, const SequenceRows& sequence, int64_t head,
                                   int64_t block, int worker) {
  Scratch& s = scratch_[static_cast<size_t>(worker)];
  const int64_t width = shape_.kv_values();
  const int64_t key_width = shape_.qk_head();
  const int64_t value_width = shape_.v_head;
  const int64_t k_begin = head * (shape_.qk_nope + value_width);
  const MatView up_k = call.kv_b.Rows(k_begin, k_begin + shape_.qk_nope);
  const MatView up_v = call.kv_b.Rows(k_begin + shape_.qk_nope, k_begin + shape_.qk_nope + value_width);
  const DotFn dot = call.kernels.Dot(WeightFormat::kF32);
  const int64_t positions = sequence.first_position + sequence.rows;
  const int64_t end = std::min(positions, block + kBlock);
  float* maximum = maximum_.data() + head * max_rows_;
  float* weight = weight_.data() + head * max_rows_;
  const auto result = [&](int64_t t) {
    return call.out + ((sequence.first_row + t) * shape_.heads + head) * value_width;
  };

  for (int64_t t = 0; t < sequence.rows; ++t) {
    const float* query = call.queries + ((sequence.first_row + t) * shape_.heads + head) * key_width;
    for (int64_t i = 0; i < key_width; ++i)
      s.queries[static_cast<size_t>(t * key_width + i)] = query[i] * scale_;
  }
  if (block == 0) {
    std::fill_n(maximum, sequence.rows, -std::numeric_limits<float>::infinity());
    std::fill_n(weight, sequence.rows, 0.f);
    std::fill_n(s.sums.begin(), sequence.rows * value_width, 0.f);
  } else {
    // What the blocks before have summed waits in `out`, where rows lie too far apart for the caches.
    for (int64_t t = 0; t < sequence.rows; ++t)
      std::copy_n(result(t), value_width, s.sums.data() + t * value_width);
  }
  for (int64_t begin = block; begin < end; begin += kExpandedTile) {
    const int64_t count = std::min(kExpandedTile, end - begin);
    const int64_t tile = (begin - block) / kExpandedTile;
    Expand(call, up_k, tile, count, s.keys.data(), key_width, worker);
    Expand(call, up_v, tile, count, s.values.data(), value_width, worker);
    for (int64_t p = 0; p < count; ++p) {
      std::copy_n(Latents(tile) + p * width + shape_.kv_lora, shape_.qk_rope,
                  s.keys.data() + p * key_width + shape_.qk_nope);
    }
    Transpose(s.values.data(), count, value_width, s.values_across.data());
    // Rows before the tile's first position see none of it.
    for (int64_t first = std::max<int64_t>(0, begin - sequence.first_position); first < sequence.rows;
         first += kRowGroup) {
      const int64_t rows = std::min(kRowGroup, sequence.rows - first);
      float* const* scores = s.y.Fill(s.scores.data(), kExpandedTile, rows);
      dot(F32View(s.keys.data(), count, key_width, key_width), 0, count,
          s.x.Fill(s.queries.data() + first * key_width, key_width, rows), rows, scores);
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t t = first + i;
        const int64_t visible = std::min(count, sequence.first_position + t + 1 - begin);
        s.keep[static_cast<size_t>(i)] =
            SoftmaxStep(call.kernels.exp_sum, std::span(scores[i], static_cast<size_t>(visible)), maximum + t,
                        weight + t);
        std::fill(scores[i] + visible, scores[i] + kExpandedTile, 0.f);
      }
      // Whole tiles, so that the order of summation is that of any other chunk.
      dot(F32View(s.values_across.data(), value_width, kExpandedTile, kExpandedTile), 0, value_width, scores,
          rows, s.x.Fill(s.added.data(), value_width, rows));
      for (int64_t i = 0; i < rows; ++i) {
        ScaledAdd(s.sums.data() + (first + i) * value_width, s.keep[static_cast<size_t>(i)],
                  s.added.data() + i * value_width, value_width);
      }
    }
  }
  for (int64_t t = 0; t < sequence.rows; ++t) {
    const float total = end == positions ? weight[t] : 1.f;
    for (int64_t i = 0; i < value_width; ++i)
      result(t)[i] = s.sums[static_cast<size_t>(t * value_width + i)] / total;
  }
}

}  // namespace moraine
