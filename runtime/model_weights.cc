#include "runtime/model_weights.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "runtime/core/check.h"
#include "runtime/expert_layout.h"
#include "storage/stored_rows.h"

namespace moraine {
namespace {

constexpr int64_t kAlignment = 64;  // a cache line; kernels load unaligned, lines should still not be shared
constexpr unsigned kMaxReaders = 8;

int64_t Aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Vectors, and whatever must be multiplied as f32, are decoded at load; matrices stay as stored.
bool DecodedAtLoad(const StoredTensor& tensor) { return tensor.columns == 0; }

int64_t StoredBytes(const StoredTensor& tensor) { return tensor.range.bytes + tensor.scale_bytes(); }

WeightRole RoleAfter(WeightRole role, int offset) {
  return static_cast<WeightRole>(static_cast<int>(role) + offset);
}

// The embedding stays in the file, unless it is also the head.
bool StaysInFile(const StoredTensor& tensor, const ModelShape& shape) {
  switch (tensor.id.role) {
    case WeightRole::kEmbedding:
      return !shape.tied_embeddings;
    // Published checkpoints repeat the model's own embedding and head here; one copy serves both.
    case WeightRole::kMtpEmbedding:
    case WeightRole::kMtpHead:
      return true;
    default:
      return false;
  }
}

}  // namespace

// Where a tensor's parts lie in memory; -1 where it has none.
struct ModelWeights::Item {
  const StoredTensor* tensor;
  int64_t offset = -1;  // of the matrix or the decoded vector; -1 for a routed expert's, whose scales stay
  int64_t scale_offset = -1;
  int64_t zero_offset = -1;  // a byte each

  int64_t ReadBytes() const { return offset < 0 ? tensor->scales->range.bytes : StoredBytes(*tensor); }
};

struct ModelWeights::Plan {
  std::vector<Item> items;               // in the order of Checkpoint::tensors()
  std::vector<int64_t> index_of_tensor;  // tensor number -> item, -1 when none of it is held
  int64_t bytes = 0;
  int64_t read_bytes = 0;
  std::array<int64_t, kTensorClasses> class_bytes{};

  explicit Plan(const Checkpoint& checkpoint) {
    for (const StoredTensor& tensor : checkpoint.tensors()) {
      const bool expert = IsExpertMatrix(tensor);
      if (StaysInFile(tensor, checkpoint.shape()) || (expert && !HasResidentScales(tensor))) {
        index_of_tensor.push_back(-1);
        continue;
      }
      index_of_tensor.push_back(static_cast<int64_t>(items.size()));
      const int64_t before = bytes;
      Item item{.tensor = &tensor};
      if (!expert) item.offset = Take(DecodedAtLoad(tensor) ? 4 * tensor.rows : tensor.range.bytes);
      if (tensor.scales) item.scale_offset = Take(tensor.scales->range.bytes);
      if (tensor.zeros) item.zero_offset = Take(ScaleCount(tensor));
      items.push_back(item);
      class_bytes[static_cast<size_t>(tensor.tensor_class)] += bytes - before;
      read_bytes += items.back().ReadBytes();
    }
  }

  const Item* Find(const Checkpoint& checkpoint, const WeightId& id) const {
    const StoredTensor* tensor = checkpoint.Find(id);
    if (tensor == nullptr) return nullptr;
    const int64_t number = index_of_tensor[static_cast<size_t>(tensor - checkpoint.tensors().data())];
    MORAINE_CHECK(number >= 0);
    return &items[static_cast<size_t>(number)];
  }

 private:
  int64_t Take(int64_t size) { return std::exchange(bytes, bytes + Aligned(size)); }
};

std::array<int64_t, kTensorClasses> ModelWeights::BytesNeeded(const Checkpoint& checkpoint) {
  return Plan(checkpoint).class_bytes;
}

Result<std::unique_ptr<ModelWeights>> ModelWeights::Load(std::shared_ptr<const Checkpoint> checkpoint,
                                                         const Topology& topology,
                                                         const LoadProgress& progress) {
  const Plan plan(*checkpoint);
  std::unique_ptr<ModelWeights> weights(new ModelWeights(std::move(checkpoint)));
  auto memory = topology.Allocate(plan.bytes, NodeId{0});
  if (!memory.has_value()) return Fail(memory.error(), "weights");
  weights->memory_ = std::move(memory).value();
  MORAINE_RETURN_IF_ERROR(weights->Read(plan, progress));
  weights->BuildViews(plan);
  return weights;
}

Status ModelWeights::ReadItem(const Item& item) const {
  const StoredTensor& tensor = *item.tensor;
  const auto at = [&](int64_t offset, int64_t bytes) {
    return std::span(memory_.data() + offset, static_cast<size_t>(bytes));
  };
  if (item.offset >= 0 && DecodedAtLoad(tensor)) {
    auto* values = reinterpret_cast<float*>(memory_.data() + item.offset);
    return checkpoint_->ReadF32(tensor.range, {values, static_cast<size_t>(tensor.rows)});
  }
  if (item.offset >= 0)
    MORAINE_RETURN_IF_ERROR(checkpoint_->ReadRows(tensor, at(item.offset, tensor.range.bytes)));
  if (item.scale_offset >= 0) {
    // In their stored type: with groups of 32 columns, 16-bit scales are an eighth of what a step reads.
    const StoredRange& scales = tensor.scales->range;
    MORAINE_RETURN_IF_ERROR(checkpoint_->ReadBytes(scales, at(item.scale_offset, scales.bytes)));
  }
  if (item.zero_offset < 0) return {};
  auto* zeros = reinterpret_cast<uint8_t*>(memory_.data() + item.zero_offset);
  return checkpoint_->ReadZeros(tensor, {zeros, static_cast<size_t>(ScaleCount(tensor))});
}

// A model's weights would fill the page cache, and a control group's limit, for nothing.
void ModelWeights::Forget(const Item& item) const {
  const auto forget = [&](const StoredRange& range) {
    checkpoint_->shards()[static_cast<size_t>(range.shard)].Forget(range.offset, range.bytes);
  };
  if (item.offset >= 0) forget(item.tensor->range);
  if (item.scale_offset >= 0) forget(item.tensor->scales->range);
  if (item.zero_offset >= 0) forget(*item.tensor->zeros);
}

// Readers take tensors in file order from a counter; the first error stops all of them.
Status ModelWeights::Read(const Plan& plan, const LoadProgress& progress) const {
  std::atomic<size_t> next{0};
  std::mutex mutex;
  int64_t done = 0;
  std::optional<Error> error;
  const auto reader = [&] {
    for (size_t i = next.fetch_add(1); i < plan.items.size(); i = next.fetch_add(1)) {
      Status status = ReadItem(plan.items[i]);
      Forget(plan.items[i]);
      const std::lock_guard lock(mutex);
      if (error) return;
      if (!status.has_value()) {
        error = std::move(status).error();
        return;
      }
      done += plan.items[i].ReadBytes();
      if (progress && !progress(done, plan.read_bytes)) {
        error = Error{ErrorKind::kInterrupted, "loading was stopped"};
        return;
      }
    }
  };
  std::vector<std::thread> readers;
  const unsigned count = std::clamp(std::thread::hardware_concurrency(), 1u, kMaxReaders);
  for (unsigned i = 1; i < count; ++i) readers.emplace_back(reader);
  reader();
  for (std::thread& thread : readers) thread.join();
  if (error) return tl::unexpected(*error);
  return {};
}

MatView ModelWeights::Matrix(const WeightId& id, const Plan& plan) const {
  const Item* item = plan.Find(*checkpoint_, id);
  if (item == nullptr) return {};
  const auto at = [&](int64_t offset) { return offset < 0 ? nullptr : memory_.data() + offset; };
  return ViewOf(*item->tensor, at(item->offset), at(item->scale_offset),
                reinterpret_cast<const uint8_t*>(at(item->zero_offset)));
}

std::span<const float> ModelWeights::Vector(const WeightId& id, const Plan& plan) const {
  const MatView view = Matrix(id, plan);
  return {reinterpret_cast<const float*>(view.data), static_cast<size_t>(view.rows)};
}

MlpWeights ModelWeights::Mlp(WeightRole gate, LayerId layer, const Plan& plan) const {
  const auto matrix = [&](int offset) { return Matrix({RoleAfter(gate, offset), layer, {}}, plan); };
  return {matrix(0), matrix(1), matrix(2)};
}

void ModelWeights::BuildViews(const Plan& plan) {
  const ModelShape& shape = checkpoint_->shape();
  const auto matrix = [&](WeightRole role, LayerId layer) { return Matrix({role, layer, {}}, plan); };
  const auto vector = [&](WeightRole role, LayerId layer) { return Vector({role, layer, {}}, plan); };
  const int32_t layers = shape.layers + (checkpoint_->report().mtp_loaded ? shape.mtp_layers : 0);
  for (int32_t l = 0; l < layers; ++l) {
    const LayerId id{l};
    LayerWeights layer{.input_norm = vector(WeightRole::kInputNorm, id),
                       .post_attention_norm = vector(WeightRole::kPostAttentionNorm, id),
                       .q = matrix(WeightRole::kQ, id),
                       .q_a = matrix(WeightRole::kQA, id),
                       .q_a_norm = vector(WeightRole::kQANorm, id),
                       .q_b = matrix(WeightRole::kQB, id),
                       .kv_a = matrix(WeightRole::kKvA, id),
                       .kv_a_norm = vector(WeightRole::kKvANorm, id),
                       .kv_b = matrix(WeightRole::kKvB, id),
                       .o = matrix(WeightRole::kO, id)};
    if (shape.IsMoe(id)) {
      layer.router = matrix(WeightRole::kRouter, id);
      layer.router_bias = vector(WeightRole::kRouterBias, id);
      layer.shared = Mlp(WeightRole::kSharedGate, id, plan);
    } else {
      layer.dense_mlp = Mlp(WeightRole::kDenseGate, id, plan);
    }
    dense_.layers.push_back(layer);
    if (!shape.IsMtp(id)) continue;
    dense_.mtp.push_back({.embed_norm = vector(WeightRole::kMtpEmbedNorm, id),
                          .hidden_norm = vector(WeightRole::kMtpHiddenNorm, id),
                          .projection = matrix(WeightRole::kMtpProjection, id),
                          .final_norm = vector(WeightRole::kMtpFinalNorm, id)});
  }
  dense_.final_norm = vector(WeightRole::kFinalNorm, {});
  dense_.head = matrix(shape.tied_embeddings ? WeightRole::kEmbedding : WeightRole::kHead, {});

  for (const Item& item : plan.items) {
    const TensorClass tensor_class = item.tensor->tensor_class;
    if (tensor_class == TensorClass::kRouted || tensor_class == TensorClass::kMtp) continue;
    dense_bytes_ += StoredBytes(*item.tensor);
  }
  for (const int64_t number : plan.index_of_tensor) {
    const Item* item = number < 0 ? nullptr : &plan.items[static_cast<size_t>(number)];
    block_scales_.push_back(item != nullptr && IsExpertMatrix(*item->tensor) ? item->scale_offset : -1);
  }
}

const std::byte* ModelWeights::BlockScales(const StoredTensor& matrix) const {
  const auto number = static_cast<size_t>(&matrix - checkpoint_->tensors().data());
  const int64_t offset = block_scales_.at(number);
  return offset < 0 ? nullptr : memory_.data() + offset;
}

int64_t ModelWeights::embedding_row_bytes() const {
  const StoredTensor* tensor = checkpoint_->Find({WeightRole::kEmbedding, {}, {}});
  return tensor->range.bytes / tensor->rows;
}

Status ModelWeights::Embed(std::span<const int32_t> tokens, std::span<float> out) const {
  const StoredTensor& tensor = *checkpoint_->Find({WeightRole::kEmbedding, {}, {}});
  const int64_t row_bytes = tensor.range.bytes / tensor.rows;
  const auto hidden = static_cast<size_t>(tensor.columns);
  for (size_t t = 0; t < tokens.size(); ++t) {
    MORAINE_CHECK(tokens[t] >= 0 && tokens[t] < tensor.rows);
    StoredRange row = tensor.range;
    row.offset += tokens[t] * row_bytes;
    row.bytes = row_bytes;
    MORAINE_RETURN_IF_ERROR(checkpoint_->ReadF32(row, out.subspan(t * hidden, hidden)));
  }
  return {};
}

}  // namespace moraine
