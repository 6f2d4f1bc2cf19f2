// The experts of a batch that have rows enough for oneDNN: which they are, and their parts of CpuExperts'
// waves.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cpu/gemm/aligned_bytes.h"
#include "cpu/gemm/prefill_gemm.h"
#include "cpu/kernel_table.h"
#include "cpu/product.h"
#include "cpu/worker_pool.h"
#include "runtime/core/experts.h"
#include "runtime/core/model_shape.h"

namespace moraine {

/// Lives in one CpuExperts and follows its batch: Start, then tasks of the first wave, then of the second.
/// Memory is taken by the constructor. Slices as in CpuExperts: each is read by its node's workers, and a
/// task owns what it writes.
class ExpertGemm {
 public:
  /// Takes experts of those `formats` for which `kernels` have no tile of their own, and none where
  /// kernels.gemm, which outlives the object, is null.
  ExpertGemm(const KernelSet& kernels, const ModelShape& shape, int32_t max_rows,
             std::span<const WeightFormat> formats);

  /// True where an expert with `n` rows is taken.
  bool Takes(const MlpWeights& w, int64_t n) const;

  /// Picks the experts and packs their rows of x, given by entry (cpu_experts.h); `sums` [T, H] is where the
  /// second wave adds. Blocking.
  void Start(const ExpertBatch& batch, std::span<const int64_t> first_entries, const float* const* x,
             float* sums, WorkerPool& pool);

  bool any() const { return !taken_.empty(); }
  /// Experts of the batch, by number, that are left to the kernels.
  std::span<const size_t> Others() const { return others_; }

  int64_t GateUpTasks(const ExpertBatch& batch, NodeId node) const;
  void GateUpTask(const ExpertBatch& batch, NodeId node, int64_t task, int worker);

  /// Rows of the node's slice of down that make a task of the second wave, a multiple of 32.
  int64_t down_rows() const { return down_rows_; }
  bool Takes(size_t item) const { return at_[item] >= 0; }
  /// sums += gain * down(hidden) for rows [begin, end) of the slice, at most down_rows() of them.
  void Down(const ExpertBatch& batch, size_t item, NodeId node, int64_t begin, int64_t end, int worker);

  static double Bytes(const KernelSet& kernels, const ModelShape& shape, int32_t max_rows,
                      std::span<const WeightFormat> formats);

 private:
  struct Taken {
    size_t item;
    int64_t entry;
    std::byte* inputs;  // panels of H columns
    std::byte* hidden;  // panels of I columns
  };
  struct Pack {
    size_t taken;
    int64_t panel;
  };

  /// Tasks of the first wave that one expert makes.
  int64_t GateUpTiles(const ExpertBatch& batch, NodeId node) const;

  ExpertGemm(PrefillGemm* gemm, const ModelShape& shape, int32_t max_rows, std::vector<WeightFormat> formats);

  PrefillGemm* gemm_;
  const ModelShape& shape_;
  std::vector<WeightFormat> formats_;
  std::vector<int64_t> at_;  // [item] index in taken_, or -1
  std::vector<Taken> taken_;
  std::vector<size_t> others_;
  std::vector<Pack> packs_;
  RowPointers sum_rows_;  // [entry]
  AlignedBytes inputs_;
  AlignedBytes hidden_;
  int64_t gate_up_rows_ = 1;
  int64_t down_rows_ = 1;
};

}  // namespace moraine
