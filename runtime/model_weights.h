// ModelWeights: what of a checkpoint stays in memory whatever happens, as the views that Dense is made from.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "cpu/topology.h"
#include "runtime/core/dense_weights.h"
#include "runtime/core/ids.h"
#include "runtime/core/result.h"
#include "runtime/core/tensor_class.h"
#include "storage/checkpoint.h"

namespace moraine {

/// Called with bytes done and bytes in all; false stops the load.
using LoadProgress = std::function<bool(int64_t done, int64_t total)>;

/// Everything but the routed experts' matrices (expert_cache.h has those) and the embedding, whose rows are
/// read from the file on demand: dense weights, and the FP8 block scales of all experts. On the first node.
/// Immutable after Load; any thread may read. Views live as long as the object.
class ModelWeights {
 public:
  /// Bytes Load will take, by TensorClass, for the plan: matrices and scales as stored, zeros as bytes, norms
  /// and biases as f32.
  static std::array<int64_t, kTensorClasses> BytesNeeded(const Checkpoint& checkpoint);

  /// Reads the weights of `checkpoint` (its MTP layers if it was opened with them). Blocks, with one reader
  /// per CPU up to eight. kInterrupted when `progress` said stop; kIo and kModel name the tensor.
  /// kDoesNotFit when the system refuses the memory.
  static Result<std::unique_ptr<ModelWeights>> Load(std::shared_ptr<const Checkpoint> checkpoint,
                                                    const Topology& topology, const LoadProgress& progress);
  ModelWeights(const ModelWeights&) = delete;
  ModelWeights& operator=(const ModelWeights&) = delete;

  const DenseWeights& dense() const { return dense_; }
  /// The resident scales of a routed expert's gate, up or down; null when it has none.
  const std::byte* BlockScales(const StoredTensor& matrix) const;

  /// Embedding rows of `tokens` (each in [0, V)) as f32 [tokens.size(), H]. Reads the file; blocks.
  Status Embed(std::span<const int32_t> tokens, std::span<float> out) const;

  /// Bytes read from memory for one row through all layers but the routed experts, scales included; of one
  /// embedding row.
  int64_t dense_bytes_per_row() const { return dense_bytes_; }
  int64_t embedding_row_bytes() const;

 private:
  explicit ModelWeights(std::shared_ptr<const Checkpoint> checkpoint) : checkpoint_(std::move(checkpoint)) {}
  struct Plan;
  struct Item;
  Status Read(const Plan& plan, const LoadProgress& progress) const;
  void BuildViews(const Plan& plan);
  Status ReadItem(const Item& item) const;
  void Forget(const Item& item) const;
  MatView Matrix(const WeightId& id, const Plan& plan) const;
  std::span<const float> Vector(const WeightId& id, const Plan& plan) const;
  MlpWeights Mlp(WeightRole gate, LayerId layer, const Plan& plan) const;

  std::shared_ptr<const Checkpoint> checkpoint_;
  NodeMemory memory_;
  DenseWeights dense_;
  std::vector<int64_t> block_scales_;  // [tensor] offset of an expert's resident scales, -1 without
  int64_t dense_bytes_ = 0;
};

}  // namespace moraine
