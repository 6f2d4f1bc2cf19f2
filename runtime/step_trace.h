// StepTrace: what the routers of an engine's steps chose, and where those experts were, into a trace file.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/core/dense.h"
#include "runtime/core/ids.h"
#include "runtime/core/result.h"
#include "runtime/trace/trace_writer.h"
#include "storage/checkpoint.h"

namespace moraine {

class ExpertCache;

/// Follows the layers of a step: BeginStep, then for each MoE layer Routed (before ExpertCache::BeginLayer),
/// Guessed where there is a guess of the next layer, EndLayer. One thread; allocates nothing after Create but
/// what TraceWriter does. A trace that cannot go on stops by itself and never fails a step.
class StepTrace {
 public:
  /// For steps of up to `max_rows` rows. Errors as TraceWriter::Create.
  static Result<std::unique_ptr<StepTrace>> Create(const std::string& path, const Checkpoint& checkpoint,
                                                   int32_t max_rows);

  /// `requests[i]` is the number of sequences[i]'s request; both stay valid until the step's last EndLayer.
  void BeginStep(int64_t step, std::span<const SequenceRows> sequences, std::span<const int32_t> requests);
  void Routed(LayerId layer, const Routing& routing, const ExpertCache& cache);
  /// `guess` [T, K], best first.
  void Guessed(std::span<const int32_t> guess);
  void EndLayer();

  void Close() { writer_->Close(); }
  /// Why the trace has stopped; empty while all is well.
  std::string Notice() const { return writer_->Notice(); }

 private:
  StepTrace(std::unique_ptr<TraceWriter> writer, int32_t dense_layers, int32_t top_k, int32_t max_rows);

  std::unique_ptr<TraceWriter> writer_;
  int32_t dense_layers_;
  size_t top_k_;
  int64_t step_ = 0;
  std::span<const SequenceRows> sequences_;
  std::span<const int32_t> requests_;
  LayerId layer_;
  std::vector<int32_t> experts_;      // [T, K]
  std::vector<float> weights_;        // [T, K]
  std::vector<Residency> residency_;  // [T, K]
  std::span<const int32_t> guess_;    // [T, K] or empty
};

}  // namespace moraine
