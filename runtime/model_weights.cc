#include "runtime/model_weights.h"

#include <fmt/core.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>

#include "runtime/core/check.h"

namespace moraine {
namespace {

constexpr int64_t kAlignment = 64;  // a cache line; kernels load unaligned, lines should still not be shared
constexpr unsigned kMaxReaders = 8;

int64_t Aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Vectors, and whatever must be multiplied as f32, are decoded at load; matrices stay as stored.
bool DecodedAtLoad(const StoredTensor& tensor) { return tensor.columns == 0; }

int64_t ZeroCount(const StoredTensor& tensor) { return tensor.scales->rows * tensor.scales->columns; }

int64_t StoredBytes(const StoredTensor& tensor) { return tensor.range.bytes + tensor.scale_bytes(); }

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

// Where each tensor will lie in the one block of memory.
struct ModelWeights::Plan {
  struct Item {
    const StoredTensor* tensor;
    int64_t offset;             // of the matrix or the decoded vector
    int64_t scale_offset = -1;  // of the scales as stored; -1 without
    int64_t zero_offset = -1;   // of the zeros, a byte each; -1 without
  };
  std::vector<Item> items;               // in the order of Checkpoint::tensors()
  std::vector<int64_t> index_of_tensor;  // tensor number -> item, -1 when it stays in the file
  int64_t bytes = 0;
  int64_t read_bytes = 0;

  explicit Plan(const Checkpoint& checkpoint) {
    for (const StoredTensor& tensor : checkpoint.tensors()) {
      if (StaysInFile(tensor, checkpoint.shape())) {
        index_of_tensor.push_back(-1);
        continue;
      }
      index_of_tensor.push_back(static_cast<int64_t>(items.size()));
      Item item{&tensor, bytes};
      bytes += Aligned(DecodedAtLoad(tensor) ? 4 * tensor.rows : tensor.range.bytes);
      if (tensor.scales) {
        item.scale_offset = bytes;
        bytes += Aligned(tensor.scales->range.bytes);
      }
      if (tensor.zeros) {
        item.zero_offset = bytes;
        bytes += Aligned(ZeroCount(tensor));
      }
      read_bytes += StoredBytes(tensor);
      items.push_back(item);
    }
  }
};

int64_t ModelWeights::BytesNeeded(const Checkpoint& checkpoint) { return Plan(checkpoint).bytes; }

ModelWeights::ModelWeights(std::shared_ptr<const Checkpoint> checkpoint)
    : checkpoint_(std::move(checkpoint)) {}

ModelWeights::~ModelWeights() {
  if (memory_ != nullptr) munmap(memory_, static_cast<size_t>(bytes_));
}

Result<std::unique_ptr<ModelWeights>> ModelWeights::Load(std::shared_ptr<const Checkpoint> checkpoint,
                                                         const LoadProgress& progress) {
  const Plan plan(*checkpoint);
  std::unique_ptr<ModelWeights> weights(new ModelWeights(std::move(checkpoint)));
  void* memory = mmap(nullptr, static_cast<size_t>(plan.bytes), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return Fail(ErrorKind::kDoesNotFit,
                fmt::format("weights: the system refused {} bytes of memory", plan.bytes));
  }
  // Decode reads all of it in random order; small pages would cost a TLB miss per row. A refusal costs speed
  // only.
  madvise(memory, static_cast<size_t>(plan.bytes), MADV_HUGEPAGE);
  weights->memory_ = static_cast<std::byte*>(memory);
  weights->bytes_ = plan.bytes;
  MORAINE_RETURN_IF_ERROR(weights->Read(plan, progress));
  weights->BuildViews(plan);
  return weights;
}

// Readers take tensors in file order from a counter; the first error stops all of them.
Status ModelWeights::Read(const Plan& plan, const LoadProgress& progress) const {
  std::atomic<size_t> next{0};
  std::mutex mutex;
  int64_t done = 0;
  std::optional<Error> error;
  const auto read_one = [&](const Plan::Item& item) -> Status {
    const StoredTensor& tensor = *item.tensor;
    std::byte* at = memory_ + item.offset;
    if (DecodedAtLoad(tensor)) {
      MORAINE_RETURN_IF_ERROR(checkpoint_->ReadF32(
          tensor.range, {reinterpret_cast<float*>(at), static_cast<size_t>(tensor.rows)}));
    } else {
      MORAINE_RETURN_IF_ERROR(checkpoint_->ReadRows(tensor, {at, static_cast<size_t>(tensor.range.bytes)}));
    }
    if (tensor.scales) {
      // In their stored type: with groups of 32 columns, 16-bit scales are an eighth of what a step reads.
      const StoredRange& scales = tensor.scales->range;
      MORAINE_RETURN_IF_ERROR(
          checkpoint_->ReadBytes(scales, {memory_ + item.scale_offset, static_cast<size_t>(scales.bytes)}));
    }
    if (!tensor.zeros) return {};
    return checkpoint_->ReadZeros(tensor, {reinterpret_cast<uint8_t*>(memory_ + item.zero_offset),
                                           static_cast<size_t>(ZeroCount(tensor))});
  };
  const auto reader = [&] {
    for (size_t i = next.fetch_add(1); i < plan.items.size(); i = next.fetch_add(1)) {
      Status status = read_one(plan.items[i]);
      const std::lock_guard lock(mutex);
      if (error) return;
      if (!status.has_value()) {
        error = std::move(status).error();
        return;
      }
      done += StoredBytes(*plan.items[i].tensor);
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
  const StoredTensor* tensor = checkpoint_->Find(id);
  if (tensor == nullptr) return {};
  const int64_t item_number =
      plan.index_of_tensor[static_cast<size_t>(tensor - checkpoint_->tensors().data())];
  MORAINE_CHECK(item_number >= 0);
  const Plan::Item& item = plan.items[static_cast<size_t>(item_number)];
  const auto at = [&](int64_t offset) { return offset < 0 ? nullptr : memory_ + offset; };
  return ViewOf(*tensor, at(item.offset), at(item.scale_offset),
                reinterpret_cast<const uint8_t*>(at(item.zero_offset)));
}

std::span<const float> ModelWeights::Vector(const WeightId& id, const Plan& plan) const {
  const MatView view = Matrix(id, plan);
  return {reinterpret_cast<const float*>(view.data), static_cast<size_t>(view.rows)};
}

MlpWeights ModelWeights::Mlp(WeightRole gate, LayerId layer, ExpertId expert, const Plan& plan) const {
  const auto role = [gate](int offset) { return static_cast<WeightRole>(static_cast<int>(gate) + offset); };
  return {Matrix({role(0), layer, expert}, plan), Matrix({role(1), layer, expert}, plan),
          Matrix({role(2), layer, expert}, plan)};
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
      layer.shared = Mlp(WeightRole::kSharedGate, id, {}, plan);
      for (int32_t e = 0; e < shape.experts; ++e) {
        experts_.push_back({.weights = Mlp(WeightRole::kExpertGate, id, ExpertId{e}, plan)});
      }
    } else {
      layer.dense_mlp = Mlp(WeightRole::kDenseGate, id, {}, plan);
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

  for (const Plan::Item& item : plan.items) {
    if (item.tensor->tensor_class == TensorClass::kRouted || item.tensor->tensor_class == TensorClass::kMtp)
      continue;
    dense_bytes_ += StoredBytes(*item.tensor);
  }
  if (!experts_.empty()) {
    for (const WeightRole role : {WeightRole::kExpertGate, WeightRole::kExpertUp, WeightRole::kExpertDown})
      expert_bytes_ += StoredBytes(*checkpoint_->Find({role, LayerId{shape.dense_layers}, ExpertId{0}}));
  }
}

std::span<const ExpertSlice> ModelWeights::Expert(LayerId layer, ExpertId expert) const {
  const ModelShape& shape = checkpoint_->shape();
  MORAINE_CHECK(expert.value >= 0 && expert.value < shape.experts);
  return {&experts_.at(
              static_cast<size_t>(int64_t{layer.value - shape.dense_layers} * shape.experts + expert.value)),
          1};
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
