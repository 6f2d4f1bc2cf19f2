// The routed experts of a prefill again, with nothing else to do: what the rest of the engine is measured by.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/cpu_backend.h"
#include "runtime/core/dense.h"
#include "runtime/core/model_shape.h"
#include "runtime/expert_grouping.h"
#include "tools/bench/expert_bank.h"

namespace moraine::tools {

/// Keeps which rows chose which experts; runs them later on a bank of random experts of the same format and
/// shapes. One thread.
class ExpertReplay {
 public:
  /// For steps of up to `max_rows` rows. `shape` and `bank` outlive the object. `cpu` has one node.
  ExpertReplay(const ModelShape& shape, const ExpertBank& bank, int32_t max_rows, CpuBackend* cpu);

  void Record(LayerId layer, const Routing& routing);
  void Forget() { batches_.clear(); }

  /// Seconds that all recorded batches take, in their order. Blocks. Errors as Experts::Run.
  Result<double> Run();
  /// Pairs of row and expert, and experts that have rows, over all recorded batches.
  int64_t pairs() const;
  int64_t experts() const { return experts_seen_; }

 private:
  struct Batch {
    LayerId layer;
    int32_t rows;
    std::vector<int32_t> experts;
    std::vector<float> weights;
  };

  const ModelShape& shape_;
  const ExpertBank& bank_;
  std::unique_ptr<Experts> experts_;
  ExpertGrouping grouping_;
  std::vector<float> inputs_;
  std::vector<Batch> batches_;
  int64_t experts_seen_ = 0;  // by the last Run
};

/// Multiplications and additions of `tokens` rows through all that is not attention's scores: every weight a
/// token uses, the head once; and of those scores and sums over `tokens` positions, in expanded form.
double PrefillFlops(const ModelShape& shape, int64_t tokens);
/// Of one (row, expert) pair.
double ExpertFlops(const ModelShape& shape);

}  // namespace moraine::tools
