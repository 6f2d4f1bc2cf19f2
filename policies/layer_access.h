// LayerAccess: the order in which a step's layers use a SlotTable. Pure: the engine and the replay of a trace
// drive the same object, so their hits, misses and evictions are the same by construction.
//
//   access.BeginStep(rows);
//   for each MoE layer:
//     access.BeginLayer(layer, chosen, top_k);
//     while (!access.Done()) {
//       for (const Access& need : access.Next()) ...   // fetch what was no hit, run the batch
//       access.Release();
//     }
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "policies/slot_table.h"
#include "runtime/core/ids.h"

namespace moraine {

/// Rows of a step that count as uses and as tokens gone by: its last ones. A long prompt is one text, and its
/// early rows say little about what comes next.
constexpr int32_t kCountedRows = 64;

/// One distinct expert of a layer.
struct Access {
  int32_t key = -1;
  SlotId slot;
  bool hit = false;      // it had a slot; its bytes may still be under way when a guess placed it
  int32_t evicted = -1;  // no hit: the key that lost the slot, -1 when it was free
};

/// Calls come from one thread and allocate nothing.
class LayerAccess {
 public:
  /// `table` is borrowed and outlives this.
  explicit LayerAccess(SlotTable* table);

  /// A step of `rows` >= 1 rows begins.
  void BeginStep(int32_t rows);

  /// `chosen` [rows, top_k] of the step's rows: experts of MoE layer `layer` (0 is the first that has
  /// experts). Those present are pinned at once: a layer's misses never evict what it needs itself, unless
  /// there is no other slot.
  void BeginLayer(int32_t layer, std::span<const int32_t> chosen, int32_t top_k);

  /// All distinct experts of the layer have been handed out.
  bool Done() const { return next_ == needs_.size(); }

  /// The next distinct experts, ascending, each pinned and in a slot: all that are left, or as many as find
  /// slots. Call Release before the next. Empty while others' pins hold every slot that could be had (look-
  /// ahead under way): wait for one of them, then call again. Valid until the next call.
  std::span<const Access> Next();

  /// The batch has run: its pins go, and the table settles which newcomers are kept (so that of a layer with
  /// many batches not only the last has a chance). A slot whose bytes could not be read may be forgotten
  /// (SlotTable) after.
  void Release();

  /// The layer cannot go on (an error): every pin this holds goes, and nothing is settled. BeginStep may
  /// follow.
  void Abandon();

 private:
  struct Need {
    int32_t key;
    int32_t uses;
    bool reserved;  // pinned by BeginLayer and not yet handed out
  };
  bool GiveUpReserve();
  void UnpinBatch();

  SlotTable* table_;
  int32_t rows_ = 0;
  std::vector<int32_t> chosen_;   // [experts] rows that chose it
  std::vector<int32_t> counted_;  // [experts] of them, among the last kCountedRows
  std::vector<Need> needs_;       // ascending keys
  size_t next_ = 0;               // of needs_
  std::vector<Access> batch_;
};

}  // namespace moraine
