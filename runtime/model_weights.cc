#include "runtime/model_weights.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "policies/node_split.h"
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

bool IsExpert(const StoredTensor& tensor) {
  return tensor.id.role == WeightRole::kExpertGate || tensor.id.role == WeightRole::kExpertUp ||
         tensor.id.role == WeightRole::kExpertDown;
}

WeightRole RoleAfter(WeightRole role, int offset) {
  return static_cast<WeightRole>(static_cast<int>(role) + offset);
}

// Rows [begin, end) of a matrix as a tensor of its own, with their scales where each row has its own.
StoredTensor Rows(const StoredTensor& tensor, int64_t begin, int64_t end) {
  const auto cut = [&](StoredRange& range) {
    const int64_t row_bytes = range.bytes / tensor.rows;
    range.offset += begin * row_bytes;
    range.bytes = (end - begin) * row_bytes;
  };
  StoredTensor part = tensor;
  cut(part.range);
  part.rows = end - begin;
  if (part.scales && part.scales->block_rows == 1) {
    cut(part.scales->range);
    part.scales->rows = part.rows;
  }
  return part;
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

// A tensor's rows [begin, end) on one node.
struct ModelWeights::Piece {
  NodeId node;
  int64_t begin;
  int64_t end;
  int64_t offset;  // of the rows or the decoded vector
  int64_t scale_offset =
      -1;  // of these rows' scales as stored; -1 where the tensor keeps them whole, or has none
};

struct ModelWeights::Item {
  const StoredTensor* tensor;
  std::vector<Piece> pieces;  // one a node for routed experts, else one
  // On the first node: scales of blocks of many rows (10.8 KB of an FP8 expert), zeros a byte each; -1
  // without.
  int64_t scale_offset = -1;
  int64_t zero_offset = -1;
};

// Where each tensor will lie in the nodes' memory.
struct ModelWeights::Plan {
  std::vector<Item> items;               // in the order of Checkpoint::tensors()
  std::vector<int64_t> index_of_tensor;  // tensor number -> item, -1 when it stays in the file
  std::vector<int64_t> node_bytes;
  int64_t read_bytes = 0;

  Plan(const Checkpoint& checkpoint, std::span<const int> node_workers) : node_bytes(node_workers.size()) {
    for (const StoredTensor& tensor : checkpoint.tensors()) {
      if (StaysInFile(tensor, checkpoint.shape())) {
        index_of_tensor.push_back(-1);
        continue;
      }
      index_of_tensor.push_back(static_cast<int64_t>(items.size()));
      items.push_back(Place(tensor, node_workers));
      read_bytes += StoredBytes(tensor);
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
  int64_t Take(NodeId node, int64_t bytes) {
    int64_t& used = node_bytes[static_cast<size_t>(node.value)];
    return std::exchange(used, used + Aligned(bytes));
  }

  Item Place(const StoredTensor& tensor, std::span<const int> node_workers) {
    Item item{.tensor = &tensor, .pieces = {}};
    const bool decoded = DecodedAtLoad(tensor);
    const bool own_scales = tensor.scales && tensor.scales->block_rows == 1;
    const std::vector<int64_t> cut =
        IsExpert(tensor) ? SplitRows(tensor.rows, node_workers) : std::vector<int64_t>{0, tensor.rows};
    for (size_t n = 0; n + 1 < cut.size(); ++n) {
      const NodeId node{static_cast<int32_t>(n)};
      const int64_t rows = cut[n + 1] - cut[n];
      Piece piece{.node = node, .begin = cut[n], .end = cut[n + 1], .offset = 0};
      piece.offset = Take(node, decoded ? 4 * rows : rows * (tensor.range.bytes / tensor.rows));
      if (own_scales) piece.scale_offset = Take(node, rows * (tensor.scales->range.bytes / tensor.rows));
      item.pieces.push_back(piece);
    }
    if (tensor.scales && !own_scales) item.scale_offset = Take(NodeId{0}, tensor.scales->range.bytes);
    if (tensor.zeros) item.zero_offset = Take(NodeId{0}, ZeroCount(tensor));
    return item;
  }
};

int64_t ModelWeights::BytesNeeded(const Checkpoint& checkpoint) {
  const int one = 1;
  return Plan(checkpoint, {&one, 1}).node_bytes.front();
}

Result<std::unique_ptr<ModelWeights>> ModelWeights::Load(std::shared_ptr<const Checkpoint> checkpoint,
                                                         const Topology& topology,
                                                         std::span<const int> node_workers,
                                                         const LoadProgress& progress) {
  const Plan plan(*checkpoint, node_workers);
  std::unique_ptr<ModelWeights> weights(new ModelWeights(std::move(checkpoint)));
  for (size_t n = 0; n < plan.node_bytes.size(); ++n) {
    auto memory = topology.Allocate(plan.node_bytes[n], NodeId{static_cast<int32_t>(n)});
    if (!memory.has_value()) return Fail(memory.error(), "weights");
    weights->memory_.push_back(std::move(memory).value());
  }
  MORAINE_RETURN_IF_ERROR(weights->Read(plan, progress));
  weights->BuildViews(plan);
  return weights;
}

std::byte* ModelWeights::At(NodeId node, int64_t offset) const {
  return memory_[static_cast<size_t>(node.value)].data() + offset;
}

Status ModelWeights::ReadItem(const Item& item) const {
  const StoredTensor& tensor = *item.tensor;
  if (DecodedAtLoad(tensor)) {
    auto* at = reinterpret_cast<float*>(At(NodeId{0}, item.pieces.front().offset));
    return checkpoint_->ReadF32(tensor.range, {at, static_cast<size_t>(tensor.rows)});
  }
  for (const Piece& piece : item.pieces) {
    const StoredTensor part = Rows(tensor, piece.begin, piece.end);
    MORAINE_RETURN_IF_ERROR(
        checkpoint_->ReadRows(part, {At(piece.node, piece.offset), static_cast<size_t>(part.range.bytes)}));
    if (piece.scale_offset < 0) continue;
    // In their stored type: with groups of 32 columns, 16-bit scales are an eighth of what a step reads.
    const StoredRange& scales = part.scales->range;
    MORAINE_RETURN_IF_ERROR(checkpoint_->ReadBytes(
        scales, {At(piece.node, piece.scale_offset), static_cast<size_t>(scales.bytes)}));
  }
  if (item.scale_offset >= 0) {
    const StoredRange& scales = tensor.scales->range;
    MORAINE_RETURN_IF_ERROR(checkpoint_->ReadBytes(
        scales, {At(NodeId{0}, item.scale_offset), static_cast<size_t>(scales.bytes)}));
  }
  if (!tensor.zeros) return {};
  return checkpoint_->ReadZeros(tensor, {reinterpret_cast<uint8_t*>(At(NodeId{0}, item.zero_offset)),
                                         static_cast<size_t>(ZeroCount(tensor))});
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

MatView ModelWeights::View(const Item& item, const Piece& piece) const {
  const StoredTensor part = Rows(*item.tensor, piece.begin, piece.end);
  const bool own_scales = piece.scale_offset >= 0;
  const std::byte* scales = nullptr;
  if (own_scales) scales = At(piece.node, piece.scale_offset);
  if (item.scale_offset >= 0) scales = At(NodeId{0}, item.scale_offset);
  const uint8_t* zeros = nullptr;
  if (item.zero_offset >= 0) {
    zeros = reinterpret_cast<const uint8_t*>(At(NodeId{0}, item.zero_offset)) +
            piece.begin * part.scales->columns;
  }
  MatView view = ViewOf(part, At(piece.node, piece.offset), scales, zeros);
  // Scales that were kept whole are found by the row's number in the whole matrix.
  if (!own_scales) view.first_row = piece.begin;
  return view;
}

MatView ModelWeights::Matrix(const WeightId& id, const Plan& plan) const {
  const Item* item = plan.Find(*checkpoint_, id);
  return item == nullptr ? MatView() : View(*item, item->pieces.front());
}

std::span<const float> ModelWeights::Vector(const WeightId& id, const Plan& plan) const {
  const MatView view = Matrix(id, plan);
  return {reinterpret_cast<const float*>(view.data), static_cast<size_t>(view.rows)};
}

MlpWeights ModelWeights::Mlp(WeightRole gate, LayerId layer, const Plan& plan) const {
  const auto matrix = [&](int offset) { return Matrix({RoleAfter(gate, offset), layer, {}}, plan); };
  return {matrix(0), matrix(1), matrix(2)};
}

void ModelWeights::AddExpert(LayerId layer, ExpertId expert, const Plan& plan) {
  const auto item = [&](WeightRole role) -> const Item& {
    return *plan.Find(*checkpoint_, {role, layer, expert});
  };
  const Item& gate = item(WeightRole::kExpertGate);
  const Item& up = item(WeightRole::kExpertUp);
  const Item& down = item(WeightRole::kExpertDown);
  for (size_t n = 0; n < memory_.size(); ++n) {
    experts_.push_back(
        {.inner_begin = gate.pieces[n].begin,
         .hidden_begin = down.pieces[n].begin,
         .weights = {View(gate, gate.pieces[n]), View(up, up.pieces[n]), View(down, down.pieces[n])}});
  }
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
      for (int32_t e = 0; e < shape.experts; ++e) AddExpert(id, ExpertId{e}, plan);
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
  const auto first =
      static_cast<size_t>(int64_t{layer.value - shape.dense_layers} * shape.experts + expert.value);
  return std::span(experts_).subspan(first * memory_.size(), memory_.size());
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
