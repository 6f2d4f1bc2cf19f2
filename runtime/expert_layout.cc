#include "runtime/expert_layout.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "policies/node_split.h"
#include "runtime/core/check.h"
#include "storage/stored_rows.h"

namespace moraine {
namespace {

constexpr std::array kRoles = {WeightRole::kExpertGate, WeightRole::kExpertUp, WeightRole::kExpertDown};

int64_t Blocks(int64_t bytes) { return (bytes + kStreamBlock - 1) / kStreamBlock * kStreamBlock; }

// Room for a stretch that begins anywhere in its first block.
int64_t Room(int64_t bytes) { return Blocks(bytes + kStreamBlock - 1); }

// Where one matrix's rows lie in the node's part of a slot.
struct Part {
  StoredTensor tensor;  // these rows
  int64_t rows = 0;     // offsets of rooms; the bytes begin as deep in the room as in their block of the file
  int64_t scales = -1;
  int64_t stored_zeros = -1;
  int64_t zeros = -1;  // a byte each, made from stored_zeros
};

Part Place(const StoredTensor& matrix, int64_t begin, int64_t end, int64_t* used) {
  const auto take = [used](int64_t bytes) { return std::exchange(*used, *used + bytes); };
  Part part{.tensor = RowsOf(matrix, begin, end)};
  part.rows = take(Room(part.tensor.range.bytes));
  if (!part.tensor.scales || HasResidentScales(matrix)) return part;
  part.scales = take(Room(part.tensor.scales->range.bytes));
  if (!part.tensor.zeros) return part;
  part.stored_zeros = take(Room(part.tensor.zeros->bytes));
  part.zeros = take(Blocks(ScaleCount(part.tensor)));
  return part;
}

std::byte* At(std::byte* base, int64_t room, const StoredRange& range) {
  return base + room + range.offset % kStreamBlock;
}

}  // namespace

bool IsExpertMatrix(const StoredTensor& tensor) {
  return std::find(kRoles.begin(), kRoles.end(), tensor.id.role) != kRoles.end();
}

bool HasResidentScales(const StoredTensor& tensor) { return tensor.scales && tensor.scales->block_rows != 1; }

std::array<const StoredTensor*, 3> ExpertMatrices(const Checkpoint& checkpoint, LayerId layer,
                                                  ExpertId expert) {
  std::array<const StoredTensor*, 3> matrices{};
  for (size_t m = 0; m < kRoles.size(); ++m) {
    matrices[m] = checkpoint.Find({kRoles[m], layer, expert});
    MORAINE_CHECK(matrices[m] != nullptr);
  }
  return matrices;
}

int64_t StoredExpertBytes(const std::array<const StoredTensor*, 3>& matrices) {
  int64_t bytes = 0;
  for (const StoredTensor* matrix : matrices) bytes += matrix->range.bytes + matrix->scale_bytes();
  return bytes;
}

int64_t SlotClass::bytes() const { return std::accumulate(node_bytes.begin(), node_bytes.end(), int64_t{0}); }

ExpertLayout::ExpertLayout(const Checkpoint& checkpoint, std::span<const int> node_workers)
    : checkpoint_(checkpoint),
      inner_cut_(SplitRows(checkpoint.shape().expert_inter, node_workers)),
      hidden_cut_(SplitRows(checkpoint.shape().hidden, node_workers)) {
  const ModelShape& shape = checkpoint.shape();
  const int32_t layers = shape.layers + (checkpoint.report().mtp_loaded ? shape.mtp_layers : 0);
  for (int32_t layer = shape.dense_layers; layer < layers; ++layer) {
    std::vector<int64_t> bytes(node_workers.size());
    for (int32_t e = 0; e < shape.experts; ++e) {
      const auto matrices = Matrices(LayerId{layer}, ExpertId{e});
      for (size_t n = 0; n < bytes.size(); ++n) bytes[n] = std::max(bytes[n], NodeBytes(matrices, n));
    }
    auto known = std::find_if(classes_.begin(), classes_.end(),
                              [&](const SlotClass& c) { return c.node_bytes == bytes; });
    if (known == classes_.end()) known = classes_.insert(known, {.node_bytes = bytes});
    ++known->layers;
    class_of_layer_.push_back(static_cast<int32_t>(known - classes_.begin()));
  }
  LimitClasses();
}

// Joins the two classes that are nearest in size until there are few enough.
void ExpertLayout::LimitClasses() {
  while (classes_.size() > SlotClass::kMost) {
    std::vector<int32_t> order(classes_.size());
    std::iota(order.begin(), order.end(), 0);
    const auto bytes = [&](int32_t c) { return classes_[static_cast<size_t>(c)].bytes(); };
    std::sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return bytes(a) < bytes(b); });
    size_t nearest = 1;
    for (size_t i = 2; i < order.size(); ++i) {
      if (bytes(order[i]) - bytes(order[i - 1]) < bytes(order[nearest]) - bytes(order[nearest - 1]))
        nearest = i;
    }
    const int32_t into = order[nearest];
    const int32_t gone = order[nearest - 1];
    SlotClass& joined = classes_[static_cast<size_t>(into)];
    const SlotClass& other = classes_[static_cast<size_t>(gone)];
    for (size_t n = 0; n < joined.node_bytes.size(); ++n)
      joined.node_bytes[n] = std::max(joined.node_bytes[n], other.node_bytes[n]);
    joined.layers += other.layers;
    classes_.erase(classes_.begin() + gone);
    for (int32_t& c : class_of_layer_) {
      if (c == gone) c = into;
      if (c > gone) --c;
    }
  }
}

int64_t ExpertLayout::NodeBytes(const std::array<const StoredTensor*, 3>& matrices, size_t node) const {
  int64_t used = 0;
  for (size_t m = 0; m < matrices.size(); ++m) Place(*matrices[m], Cut(m)[node], Cut(m)[node + 1], &used);
  return used;
}

void ExpertLayout::Ranges(LayerId layer, ExpertId expert, NodeId node, std::byte* base,
                          std::vector<StreamRange>* out) const {
  const auto n = static_cast<size_t>(node.value);
  const auto matrices = Matrices(layer, expert);
  const auto add = [&](const StoredRange& range, int64_t room) {
    if (range.bytes > 0) out->push_back({range.shard, range.offset, range.bytes, At(base, room, range)});
  };
  int64_t used = 0;
  for (size_t m = 0; m < matrices.size(); ++m) {
    const Part part = Place(*matrices[m], Cut(m)[n], Cut(m)[n + 1], &used);
    add(part.tensor.range, part.rows);
    if (part.scales >= 0) add(part.tensor.scales->range, part.scales);
    if (part.stored_zeros >= 0) add(*part.tensor.zeros, part.stored_zeros);
  }
}

ExpertSlice ExpertLayout::View(LayerId layer, ExpertId expert, NodeId node, std::byte* base,
                               const std::array<const std::byte*, 3>& block_scales) const {
  const auto n = static_cast<size_t>(node.value);
  const auto matrices = Matrices(layer, expert);
  std::array<MatView, 3> views;
  int64_t used = 0;
  for (size_t m = 0; m < matrices.size(); ++m) {
    const Part part = Place(*matrices[m], Cut(m)[n], Cut(m)[n + 1], &used);
    const StoredTensor& tensor = part.tensor;
    const std::byte* scales =
        part.scales >= 0 ? At(base, part.scales, tensor.scales->range) : block_scales[m];
    const auto* zeros = part.zeros >= 0 ? reinterpret_cast<const uint8_t*>(base + part.zeros) : nullptr;
    views[m] = ViewOf(tensor, At(base, part.rows, tensor.range), scales, zeros);
    // Scales that were kept whole are found by the row's number in the whole matrix.
    if (HasResidentScales(tensor)) views[m].first_row = Cut(m)[n];
  }
  return {.inner_begin = inner_cut_[n],
          .hidden_begin = hidden_cut_[n],
          .weights = {.gate = views[0], .up = views[1], .down = views[2]}};
}

void ExpertLayout::Finish(LayerId layer, ExpertId expert, NodeId node, std::byte* base) const {
  const auto n = static_cast<size_t>(node.value);
  const auto matrices = Matrices(layer, expert);
  int64_t used = 0;
  for (size_t m = 0; m < matrices.size(); ++m) {
    const Part part = Place(*matrices[m], Cut(m)[n], Cut(m)[n + 1], &used);
    const StoredTensor& tensor = part.tensor;
    FinishRows(tensor, {At(base, part.rows, tensor.range), static_cast<size_t>(tensor.range.bytes)});
    if (part.zeros < 0) continue;
    UnpackZeros(tensor,
                {At(base, part.stored_zeros, *tensor.zeros), static_cast<size_t>(tensor.zeros->bytes)},
                {reinterpret_cast<uint8_t*>(base + part.zeros), static_cast<size_t>(ScaleCount(tensor))});
  }
}

}  // namespace moraine
