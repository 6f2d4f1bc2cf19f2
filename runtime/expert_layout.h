// ExpertLayout: where the bytes of a routed expert lie in a slot.
//
// A slot has a part on every NUMA node, which holds that node's rows of gate, up and down as they are stored,
// with the scales each row has of its own and their zeros. Each stretch of a file has room for the blocks
// that enclose it, so that it can be read without a copy at whatever offset it is stored. Scales of blocks of
// many rows (FP8: 10.8 KB an expert) are not in the slot; they stay resident.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/core/experts.h"
#include "runtime/core/ids.h"
#include "storage/checkpoint.h"
#include "storage/streamer.h"

namespace moraine {

/// True for the matrices of routed experts, those of MTP layers included.
bool IsExpertMatrix(const StoredTensor& tensor);

/// True when `tensor` keeps its scales outside slots: blocks of more than one row.
bool HasResidentScales(const StoredTensor& tensor);

/// Experts of one size share slots: at most kMost classes, since formats may differ by layer.
struct SlotClass {
  static constexpr size_t kMost = 4;
  std::vector<int64_t> node_bytes;  // [node] of one slot, whole blocks
  int32_t layers = 0;               // that use it
  int64_t bytes() const;
};

/// The expert's gate, up and down as stored.
std::array<const StoredTensor*, 3> ExpertMatrices(const Checkpoint& checkpoint, LayerId layer,
                                                  ExpertId expert);

/// One expert's bytes as stored, scales and zeros included.
int64_t StoredExpertBytes(const std::array<const StoredTensor*, 3>& matrices);

/// Immutable; any thread may call. `checkpoint` outlives it.
class ExpertLayout {
 public:
  /// Cut over `node_workers.size()` nodes as policies/node_split.h says.
  ExpertLayout(const Checkpoint& checkpoint, std::span<const int> node_workers);

  int nodes() const { return static_cast<int>(inner_cut_.size()) - 1; }
  /// MoE layers, MTP layers included if the checkpoint was opened with them.
  int32_t layers() const { return static_cast<int32_t>(class_of_layer_.size()); }
  std::span<const SlotClass> classes() const { return classes_; }
  /// Index into classes() of each MoE layer, counted from the first one.
  std::span<const int32_t> class_of_layer() const { return class_of_layer_; }

  /// What must be read on `node` to fill the slot whose part there begins at `base` (a block boundary).
  /// Appends to `out`, which keeps its capacity.
  void Ranges(LayerId layer, ExpertId expert, NodeId node, std::byte* base,
              std::vector<StreamRange>* out) const;

  /// The views of that part; nothing is read. `block_scales` are the resident scales of gate, up and down;
  /// null where there are none.
  ExpertSlice View(LayerId layer, ExpertId expert, NodeId node, std::byte* base,
                   const std::array<const std::byte*, 3>& block_scales) const;

  /// Once the bytes have come: makes them what kernels take, in place. Most formats need nothing.
  void Finish(LayerId layer, ExpertId expert, NodeId node, std::byte* base) const;

  std::array<const StoredTensor*, 3> Matrices(LayerId layer, ExpertId expert) const {
    return ExpertMatrices(checkpoint_, layer, expert);
  }

 private:
  std::span<const int64_t> Cut(size_t matrix) const { return matrix == 2 ? hidden_cut_ : inner_cut_; }
  int64_t NodeBytes(const std::array<const StoredTensor*, 3>& matrices, size_t node) const;
  void LimitClasses();

  const Checkpoint& checkpoint_;
  std::vector<int64_t> inner_cut_;   // [node + 1] rows of gate and up
  std::vector<int64_t> hidden_cut_;  // [node + 1] rows of down
  std::vector<SlotClass> classes_;
  std::vector<int32_t> class_of_layer_;
};

}  // namespace moraine
