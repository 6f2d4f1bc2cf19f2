// ModelWeights: the bytes of a checkpoint in memory, as the views that Dense and Experts are made from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "runtime/core/dense_weights.h"
#include "runtime/core/experts.h"
#include "runtime/core/ids.h"
#include "runtime/core/result.h"
#include "storage/checkpoint.h"

namespace moraine {

/// Called with bytes done and bytes in all; false stops the load.
using LoadProgress = std::function<bool(int64_t done, int64_t total)>;

/// Everything resident in RAM except the embedding, whose rows are read from the file on demand. Immutable
/// after Load; any thread may read. Views live as long as the object.
class ModelWeights {
 public:
  /// Bytes Load will take, for the plan: matrices and scales as stored, zeros as bytes, norms
  /// and biases as f32.
  static int64_t BytesNeeded(const Checkpoint& checkpoint);

  /// Reads all weights of `checkpoint` (its MTP layers if it was opened with them). Blocks, with one reader
  /// per CPU up to eight. kInterrupted when `progress` said stop; kIo and kModel name the tensor.
  static Result<std::unique_ptr<ModelWeights>> Load(std::shared_ptr<const Checkpoint> checkpoint,
                                                    const LoadProgress& progress);
  ~ModelWeights();
  ModelWeights(const ModelWeights&) = delete;
  ModelWeights& operator=(const ModelWeights&) = delete;

  const DenseWeights& dense() const { return dense_; }
  /// The expert's slices, one a node.
  std::span<const ExpertSlice> Expert(LayerId layer, ExpertId expert) const;

  /// Embedding rows of `tokens` (each in [0, V)) as f32 [tokens.size(), H]. Reads the file; blocks.
  Status Embed(std::span<const int32_t> tokens, std::span<float> out) const;

  /// Bytes read from memory for one row through all layers but the routed experts; of one expert (scales
  /// included in both); of one embedding row.
  int64_t dense_bytes_per_row() const { return dense_bytes_; }
  int64_t expert_bytes() const { return expert_bytes_; }
  int64_t embedding_row_bytes() const;

 private:
  explicit ModelWeights(std::shared_ptr<const Checkpoint> checkpoint);
  struct Plan;
  Status Read(const Plan& plan, const LoadProgress& progress) const;
  void BuildViews(const Plan& plan);
  MatView Matrix(const WeightId& id, const Plan& plan) const;
  std::span<const float> Vector(const WeightId& id, const Plan& plan) const;
  MlpWeights Mlp(WeightRole gate, LayerId layer, ExpertId expert, const Plan& plan) const;

  std::shared_ptr<const Checkpoint> checkpoint_;
  std::byte* memory_ = nullptr;
  int64_t bytes_ = 0;
  DenseWeights dense_;
  std::vector<ExpertSlice> experts_;  // [layer - dense_layers][expert]
  int64_t dense_bytes_ = 0;
  int64_t expert_bytes_ = 0;
};

}  // namespace moraine
