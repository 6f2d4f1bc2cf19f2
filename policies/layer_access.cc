#include "policies/layer_access.h"

#include <algorithm>
#include <optional>

#include "runtime/core/check.h"

namespace moraine {

LayerAccess::LayerAccess(SlotTable* table)
    : table_(table),
      chosen_(static_cast<size_t>(table->experts())),
      counted_(static_cast<size_t>(table->experts())) {
  needs_.reserve(chosen_.size());
  batch_.reserve(chosen_.size());
}

void LayerAccess::BeginStep(int32_t rows) {
  MORAINE_CHECK(rows > 0 && Done() && batch_.empty());
  rows_ = rows;
  table_->Tick(std::min(rows, kCountedRows));
}

void LayerAccess::BeginLayer(int32_t layer, std::span<const int32_t> chosen, int32_t top_k) {
  MORAINE_CHECK(Done() && batch_.empty() && top_k > 0);
  MORAINE_CHECK_EQ(chosen.size(), int64_t{rows_} * top_k);
  std::fill(chosen_.begin(), chosen_.end(), 0);
  std::fill(counted_.begin(), counted_.end(), 0);
  const int32_t first_counted = std::max(0, rows_ - kCountedRows);
  for (size_t i = 0; i < chosen.size(); ++i) {
    const auto expert = static_cast<size_t>(chosen[i]);
    MORAINE_CHECK(expert < chosen_.size());
    ++chosen_[expert];
    if (static_cast<int64_t>(i) >= int64_t{first_counted} * top_k) ++counted_[expert];
  }
  needs_.clear();
  next_ = 0;
  for (size_t expert = 0; expert < chosen_.size(); ++expert) {
    if (chosen_[expert] == 0) continue;
    const int32_t key = layer * table_->experts() + static_cast<int32_t>(expert);
    const bool present = table_->Find(key).value >= 0;
    if (present) table_->Pin(key);
    needs_.push_back({key, counted_[expert], present});
  }
}

std::span<const Access> LayerAccess::Next() {
  MORAINE_CHECK(batch_.empty());
  while (next_ < needs_.size()) {
    Need& need = needs_[next_];
    Access access{.key = need.key, .slot = table_->Find(need.key)};
    access.hit = access.slot.value >= 0;
    if (access.hit && !need.reserved) table_->Pin(need.key);
    need.reserved = false;
    if (!access.hit) {
      std::optional<SlotTable::Placed> placed = table_->Place(need.key);
      while (!placed && batch_.empty() && GiveUpReserve()) placed = table_->Place(need.key);
      if (!placed) break;
      access.slot = placed->slot;
      access.evicted = placed->evicted;
    }
    table_->Use(need.key, need.uses, access.hit);
    batch_.push_back(access);
    ++next_;
  }
  return batch_;
}

// Unpins one expert that waits further back, the last first; false when there is none.
bool LayerAccess::GiveUpReserve() {
  for (size_t i = needs_.size(); i > next_; --i) {
    Need& need = needs_[i - 1];
    if (!need.reserved) continue;
    table_->Unpin(need.key);
    need.reserved = false;
    return true;
  }
  return false;
}

void LayerAccess::Release() {
  UnpinBatch();
  table_->Settle();
}

void LayerAccess::UnpinBatch() {
  for (const Access& access : batch_) table_->Unpin(access.key);
  batch_.clear();
}

void LayerAccess::Abandon() {
  UnpinBatch();
  while (GiveUpReserve()) {
  }
  next_ = needs_.size();
}

}  // namespace moraine
