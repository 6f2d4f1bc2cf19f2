// Multi-head latent attention over the compressed cache, in both forms (DeepSeek-V2, arXiv 2405.04434,
// section 2.1).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpu/gemm/aligned_bytes.h"
#include "cpu/kernel_table.h"
#include "cpu/kv_pages.h"
#include "cpu/product.h"
#include "cpu/worker_pool.h"
#include "runtime/core/dense.h"
#include "runtime/core/model_shape.h"

namespace moraine {

/// Softmax attention of new rows over their sequence's cached positions. Tiles of positions lie on a fixed
/// grid and every (row, head) is computed alone, so neither pages, threads, chunks nor other sequences change
/// a bit within one mode.
///
/// In expanded form K and V are made by oneDNN where `kernels.gemm` is there and prepared for kv_b: rounded
/// as cpu/gemm/prefill_gemm.h says, so not at all where weights and cache are bf16. Scores and sums are f32
/// always.
class LatentAttention {
 public:
  /// Memory for `threads` workers and steps of `max_rows` rows is taken here, none later. `shape` outlives
  /// the object.
  LatentAttention(const ModelShape& shape, int threads, int32_t max_rows);
  ~LatentAttention();

  /// f32 values of memory that an object takes, a double since a hostile shape may pass 2^63.
  static double ScratchValues(const ModelShape& shape, int threads, int32_t max_rows);

  /// queries [T, N (nope+P)]: rotated, not scaled. out [T, N v_head]. kv_b [N (nope+v_head), R] holds W_UK
  /// and W_UV per head. The cache already holds the new positions. Blocking.
  void Run(WorkerPool& pool, const KernelSet& kernels, const MatView& kv_b, LayerId layer,
           const KvPages& cache, std::span<const SequenceRows> sequences, const float* queries, float* out);

 private:
  struct Call;     // the arguments of Run, for the tasks
  struct Scratch;  // one worker's memory

  void AbsorbedTask(const Call& call, const SequenceRows& sequence, int32_t row, int64_t head_block,
                    Scratch& s) const;
  void RunExpanded(WorkerPool& pool, const Call& call, const SequenceRows& sequence);
  void LoadTile(const Call& call, const SequenceRows& sequence, int64_t begin, int64_t count, int64_t tile,
                Scratch& s);
  void ExpandedTask(const Call& call, const SequenceRows& sequence, int64_t head, int64_t block, int worker);
  void Expand(const Call& call, const MatView& w, int64_t tile, int64_t count, float* out, int64_t stride,
              int worker);
  const float* Latents(int64_t tile) const;
  int64_t PanelBytes(const Call& call) const;

  const ModelShape& shape_;
  float scale_;
  int32_t max_rows_;
  std::vector<Scratch> scratch_;
  std::vector<float> block_;    // decoded cache rows of a block of positions [positions, R+P]
  AlignedBytes panels_;         // their latents, packed for oneDNN
  std::vector<float> maximum_;  // running softmax maximum [N, max_rows]
  std::vector<float> weight_;   // and sum of exponentials
};

}  // namespace moraine
