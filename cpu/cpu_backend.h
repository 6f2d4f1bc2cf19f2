// The door of cpu/: worker threads and kernels, and the CPU implementations of Dense and Experts made on
// them.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "cpu/gemm/gemm_report.h"
#include "cpu/topology.h"
#include "runtime/core/dense.h"
#include "runtime/core/dense_weights.h"
#include "runtime/core/experts.h"
#include "runtime/core/model_shape.h"
#include "runtime/core/result.h"

namespace moraine {

struct CpuOptions {
  std::string topology;          // a machine as hwloc describes synthetic ones, for tests; empty: this one
  int threads = 0;               // 0: one per core this process may run on, no more than its cgroup's quota
  std::string isa = "auto";      // "auto", or the best row allowed: "amx", "avx512-vbmi", "avx512-vnni",
                                 // "avx512", "avx2", "scalar"
  bool f32_activations = false;  // no product rounds its input, to int8 or to bf16
  int switch_over = 0;  // rows from which on tiles multiply, oneDNN's and our own; 0: as measured, by
                        // format and ISA (docs/performance.md)
};

/// Outlives whatever it makes. All made objects are driven from one thread.
class CpuBackend {
 public:
  /// kUsage for an unknown isa, a thread count outside 1..1024 or a negative switch-over, kHardware when the
  /// CPU lacks the isa asked for.
  static Result<std::unique_ptr<CpuBackend>> Create(const CpuOptions& options);
  ~CpuBackend();

  int threads() const;
  /// The NUMA nodes that hold workers: experts come in as many slices.
  const Topology& topology() const;
  /// Workers of each, in the order of NodeId.
  std::span<const int> node_workers() const;
  /// The kernel rows in use, for the start-up line: "fp8-e4m3-block: avx2, ...".
  std::string KernelNames() const;
  /// What steps with many rows multiply with, and what oneDNN has done so far. Between steps.
  GemmReport PrefillReport() const;

  /// Bytes MakeDense and MakeExperts take beside the KV pages, within a few percent: activations for
  /// `options.max_rows` rows, logits, attention tiles per worker. A double, since a hostile shape may pass
  /// 2^63. `mtp`: with the MTP input.
  double ScratchBytes(const ModelShape& shape, const DenseOptions& options,
                      std::span<const WeightFormat> expert_formats, bool mtp) const;

  /// `shape` and the bytes behind `weights` outlive the result. kDoesNotFit when KV memory is refused.
  Result<std::unique_ptr<Dense>> MakeDense(const ModelShape& shape, const DenseWeights& weights,
                                           const DenseOptions& options);
  /// For batches of up to `max_rows` rows of experts in `formats`; `shape` outlives the result.
  std::unique_ptr<Experts> MakeExperts(const ModelShape& shape, int32_t max_rows,
                                       std::span<const WeightFormat> formats);

 private:
  struct State;
  explicit CpuBackend(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace moraine
