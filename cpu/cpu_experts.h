// Routed experts on the CPU: two waves a layer over all chosen experts.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "cpu/expert_gemm.h"
#include "cpu/kernel_table.h"
#include "cpu/product.h"
#include "cpu/q8_rows.h"
#include "cpu/worker_pool.h"
#include "runtime/core/experts.h"
#include "runtime/core/model_shape.h"

namespace moraine {

/// Contract: runtime/core/experts.h; every expert comes in as many slices as the pool has nodes, and each
/// slice is read by its node's workers. A batch is done when Run returns. Every output row belongs to one
/// task of the second wave, which adds the experts in ascending order: nothing is reduced across threads or
/// nodes.
class CpuExperts final : public Experts {
 public:
  /// Output rows of one task in either wave, in multiples of 128: as many as leave every worker a few tasks.
  /// Each task begins somewhere else in memory, and beginnings are slow.
  static constexpr int64_t kMaxTaskRows = 256;

  /// For batches of up to `max_rows` rows of experts whose matrices have one of `formats`. Memory is taken
  /// here, none in Run.
  CpuExperts(const ModelShape& shape, int32_t max_rows, std::span<const WeightFormat> formats,
             const KernelSet& kernels, WorkerPool* pool);

  Result<ExpertSum> Run(const ExpertBatch& batch) override;

  /// Bytes the constructor takes, as a double since a hostile shape may pass 2^63.
  static double Bytes(const ModelShape& shape, int32_t max_rows, std::span<const WeightFormat> formats,
                      const KernelSet& kernels, int threads);

 private:
  /// Rows of a product's input, as they are and quantised in each layout that a format in use asks for.
  struct Operand {
    RowPointers rows;
    std::array<Q8Rows, 2> q8;                   // [layout], memory; empty where no format asks
    std::array<std::vector<Q8Row>, 2> q8_rows;  // [layout][entry]
  };

  Result<size_t> WaitForSome(std::span<const ExpertWork> work);
  Status RunAsTheyCome(const ExpertBatch& batch);
  void RunPart(const ExpertBatch& batch);
  void Index(const ExpertBatch& batch);
  void QuantiseInputs(const ExpertBatch& batch);
  void Multiply(const MatView& w, int64_t begin, int64_t end, const Operand& x, int64_t first_entry,
                int64_t n, float* const* y) const;
  int64_t GateUpTasks(const ExpertBatch& batch, NodeId node) const;
  void GateUpTask(const ExpertBatch& batch, NodeId node, int64_t task);
  void QuantiseHidden(const MatView& down, int64_t entry, int64_t begin, int64_t end);
  void DownTask(const ExpertBatch& batch, NodeId node, int64_t begin, int64_t end, int worker);
  void AddDown(const ExpertBatch& batch, size_t item, NodeId node, int64_t begin, int64_t end, int worker);
  float* Apart(size_t item) { return apart_out_.data() + static_cast<int64_t>(item) * shape_.hidden; }
  bool Quantised(const MatView& w) const { return kernels_.Q8Dot(w.format) != nullptr && FitsQ8(w); }

  const ModelShape& shape_;
  KernelSet kernels_;
  WorkerPool* pool_;
  int32_t max_rows_;
  ExpertGemm gemm_;
  // An entry is one (row, expert) pair, entries of an expert side by side: at most max_rows K of them.
  std::vector<int64_t> first_entries_;  // [work] of each expert in the batch
  int64_t gate_up_rows_ = 0;            // rows of a task in the first wave of this batch
  Operand inputs_;                      // [entries] rows of x
  Operand hidden_;                      // [entries, I] silu(gate x) * up x
  std::vector<float> gate_;             // [entries, I]
  std::vector<float> up_;               // [entries, I]
  std::vector<RowPointers> gate_rows_;  // [node][entry]: where the node's slice of I begins
  std::vector<RowPointers> up_rows_;
  std::vector<float> sums_;            // [T, H]
  std::vector<float> expert_out_;      // [worker, rows, kMaxTaskRows]: one expert's part of a task
  std::vector<RowPointers> out_rows_;  // [worker]
  // Of RunAsTheyCome: numbers in the batch of what has not come, and of what makes the part that runs.
  std::vector<size_t> pending_;
  std::vector<size_t> part_items_;
  std::vector<ExpertWork> part_;
  bool single_rows_ = false;      // of the batch
  bool apart_ = false;            // that part's second wave writes to apart_out_
  std::vector<float> apart_out_;  // [K, H]
};

}  // namespace moraine
