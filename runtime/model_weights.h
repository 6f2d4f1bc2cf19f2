// ModelWeights: the bytes of a checkpoint in memory, as the views that Dense and Experts are made from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "cpu/topology.h"
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
  /// Routed experts are cut into one slice for each entry of `node_workers` (the workers of each NUMA node),
  /// which lies in that node's memory; all the rest lies on the first. kDoesNotFit when the system refuses
  /// the memory.
  static Result<std::unique_ptr<ModelWeights>> Load(std::shared_ptr<const Checkpoint> checkpoint,
                                                    const Topology& topology,
                                                    std::span<const int> node_workers,
                                                    const LoadProgress& progress);
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
  /// Bytes taken of each node.
  int64_t node_bytes(NodeId node) const { return memory_[static_cast<size_t>(node.value)].bytes(); }

 private:
  explicit ModelWeights(std::shared_ptr<const Checkpoint> checkpoint) : checkpoint_(std::move(checkpoint)) {}
  struct Plan;
  struct Item;
  struct Piece;
  Status Read(const Plan& plan, const LoadProgress& progress) const;
  void BuildViews(const Plan& plan);
  Status ReadItem(const Item& item) const;
  std::byte* At(NodeId node, int64_t offset) const;
  MatView View(const Item& item, const Piece& piece) const;
  MatView Matrix(const WeightId& id, const Plan& plan) const;
  std::span<const float> Vector(const WeightId& id, const Plan& plan) const;
  MlpWeights Mlp(WeightRole gate, LayerId layer, const Plan& plan) const;
  void AddExpert(LayerId layer, ExpertId expert, const Plan& plan);

  std::shared_ptr<const Checkpoint> checkpoint_;
  std::vector<NodeMemory> memory_;  // [node]
  DenseWeights dense_;
  std::vector<ExpertSlice> experts_;  // [layer - dense_layers][expert][node]
  int64_t dense_bytes_ = 0;
  int64_t expert_bytes_ = 0;
};

}  // namespace moraine
