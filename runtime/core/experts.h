// Experts: run chosen routed experts on chosen rows. One interface, a CPU and a CUDA implementation, one test
// body.
#pragma once

#include <cstdint>
#include <span>

#include "runtime/core/dense_weights.h"
#include "runtime/core/ids.h"
#include "runtime/core/result.h"
#include "runtime/core/ticket.h"

namespace moraine {

/// The part of an expert that one NUMA node holds: rows [inner_begin, + gate.rows) of gate and up, rows
/// [hidden_begin, + down.rows) of down. Slices of an expert follow one another without gap or overlap, cut
/// alike for all experts, at multiples of 128 rows; on one node the slice is the expert.
struct ExpertSlice {
  int64_t inner_begin = 0;
  int64_t hidden_begin = 0;
  MlpWeights weights;
};

/// One expert of the layer, with all rows that chose it.
struct ExpertWork {
  ExpertId expert;
  std::span<const ExpertSlice> slices;  // one a node, ascending; borrowed until the sum's ticket is done
  std::span<const int32_t> rows;        // ascending row numbers of the step, at least one
  std::span<const float> gains;         // router weight of each of those rows
  Ticket ready;                         // the weights may be read once this is done (a fetch under way)
};

struct ExpertBatch {
  LayerId layer;
  int32_t rows = 0;                  // T
  const float* inputs = nullptr;     // [T, H] f32, host memory
  std::span<const ExpertWork> work;  // ascending expert ids; each expert once
  bool resume = false;       // the sum goes on from the last Run's: same layer and rows, higher expert ids
  bool single_rows = false;  // AreSingleRows (dense.h): kernels are chosen as for a batch of one row
};

/// sum[t] = sum over this batch's experts of row t, added in ascending expert order, of gain *
/// expert(inputs[t]). A layer cut into batches (`resume`) has the bits of the layer in one.
struct ExpertSum {
  Ticket done;
  const float* values = nullptr;  // [T, H] f32 in the memory of the implementation that made it
  bool on_device = false;         // true: device memory of the GPU implementation
};

/// Issue calls come from one thread. Work in flight at a time: one batch.
class Experts {
 public:
  virtual ~Experts() = default;

  /// Starts the batch and returns its sum, valid until the next Run. Waits for nothing but what its own
  /// workers need: a `ready` that fails is the status of the sum's ticket. Memory named by the batch stays
  /// valid until that ticket is done.
  virtual Result<ExpertSum> Run(const ExpertBatch& batch) = 0;
};

}  // namespace moraine
