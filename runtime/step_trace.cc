#include "runtime/step_trace.h"

#include <algorithm>
#include <array>

#include "runtime/core/check.h"
#include "runtime/core/crc32c.h"
#include "runtime/expert_cache.h"

namespace moraine {
namespace {

// Of what tells one checkpoint from another: roles, places, formats and sizes of its weights.
uint64_t HashOf(const Checkpoint& checkpoint) {
  uint32_t hash = 0;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    const std::array<int64_t, 6> values = {
        static_cast<int64_t>(tensor.id.role), tensor.id.layer.value, tensor.id.expert.value,
        static_cast<int64_t>(tensor.format),  tensor.rows,           tensor.columns};
    hash = Crc32c(std::as_bytes(std::span(values)), hash);
  }
  return hash;
}

}  // namespace

StepTrace::StepTrace(std::unique_ptr<TraceWriter> writer, int32_t dense_layers, int32_t top_k,
                     int32_t max_rows)
    : writer_(std::move(writer)),
      dense_layers_(dense_layers),
      top_k_(static_cast<size_t>(top_k)),
      experts_(static_cast<size_t>(int64_t{max_rows} * top_k)),
      weights_(experts_.size()),
      residency_(experts_.size()) {}

Result<std::unique_ptr<StepTrace>> StepTrace::Create(const std::string& path, const Checkpoint& checkpoint,
                                                     int32_t max_rows) {
  const ModelShape& shape = checkpoint.shape();
  if (shape.moe_layers() == 0)
    return Fail(ErrorKind::kUsage, "--trace: the model has no routed experts, so there is nothing to trace");
  TraceHeader header{.model_hash = HashOf(checkpoint),
                     .layers = static_cast<int32_t>(shape.moe_layers()),
                     .experts = shape.experts,
                     .top_k = shape.top_k,
                     .guesses = shape.top_k};
  const auto matrices = ExpertMatrices(checkpoint, LayerId{shape.dense_layers}, ExpertId{0});
  header.expert_bytes = StoredExpertBytes(matrices);
  header.format = FormatName(*matrices.back());
  for (int32_t layer = shape.dense_layers; layer < shape.layers; ++layer) header.layer_map.push_back(layer);
  MORAINE_ASSIGN_OR_RETURN(std::unique_ptr<TraceWriter> writer, TraceWriter::Create(path, header));
  return std::unique_ptr<StepTrace>(
      new StepTrace(std::move(writer), shape.dense_layers, shape.top_k, max_rows));
}

void StepTrace::BeginStep(int64_t step, std::span<const SequenceRows> sequences,
                          std::span<const int32_t> requests) {
  MORAINE_CHECK_EQ(sequences.size(), requests.size());
  step_ = step;
  sequences_ = sequences;
  requests_ = requests;
}

void StepTrace::Routed(LayerId layer, const Routing& routing, const ExpertCache& cache) {
  layer_ = layer;
  guess_ = {};
  const auto count = static_cast<size_t>(routing.rows) * top_k_;
  std::copy_n(routing.experts, count, experts_.begin());
  std::copy_n(routing.weights, count, weights_.begin());
  for (size_t i = 0; i < count; ++i) residency_[i] = cache.ResidencyOf(layer, ExpertId{experts_[i]});
}

void StepTrace::Guessed(std::span<const int32_t> guess) { guess_ = guess; }

void StepTrace::EndLayer() {
  for (size_t s = 0; s < sequences_.size(); ++s) {
    const SequenceRows& sequence = sequences_[s];
    for (int32_t i = 0; i < sequence.rows; ++i) {
      const auto at = static_cast<size_t>(sequence.first_row + i) * top_k_;
      writer_->Add({.request = requests_[s],
                    .step = static_cast<int32_t>(step_),
                    .position = static_cast<int32_t>(sequence.first_position) + i,
                    .layer = layer_.value - dense_layers_,
                    .phase = sequence.rows > 1 ? TracePhase::kPrefill : TracePhase::kDecode,
                    .experts = std::span(experts_).subspan(at, top_k_),
                    .weights = std::span(weights_).subspan(at, top_k_),
                    .residency = std::span(residency_).subspan(at, top_k_),
                    .guesses = guess_.empty() ? guess_ : guess_.subspan(at, top_k_)});
    }
  }
}

}  // namespace moraine
