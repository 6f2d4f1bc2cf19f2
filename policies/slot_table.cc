#include "policies/slot_table.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "runtime/core/check.h"

namespace moraine {

SlotTable::SlotTable(const SlotTableOptions& options, std::unique_ptr<Eviction> eviction)
    : options_(options), eviction_(std::move(eviction)) {
  MORAINE_CHECK(options.layers > 0 && options.experts > 0 && options.slots > 0 && options.staging >= 0);
  const int32_t keys = options.layers * options.experts;
  MORAINE_CHECK(options.slots >= keys || (options.staging > 0 && options.staging <= options.slots));
  const auto n = static_cast<size_t>(keys);
  most_kept_ = options.slots >= keys ? keys : options.slots - options.staging;
  options_.floor = std::min(options.floor, most_kept_ / options.layers);
  slot_of_.assign(n, -1);
  key_of_.assign(static_cast<size_t>(options.slots), -1);
  pins_.assign(n, 0);
  kept_.assign(n, 0);
  guessed_.assign(n, 0);
  uses_.assign(n, 0);
  kept_at_.assign(n, -1);
  kept_in_layer_.assign(static_cast<size_t>(options.layers), 0);
  free_.resize(static_cast<size_t>(options.slots));
  std::iota(free_.rbegin(), free_.rend(), 0);
  staging_.reserve(static_cast<size_t>(options.slots));
  kept_keys_.reserve(static_cast<size_t>(most_kept_));
  newcomers_.reserve(static_cast<size_t>(options.slots));
  scores_.resize(static_cast<size_t>(most_kept_));
  newcomer_scores_.resize(static_cast<size_t>(options.slots));
}

int32_t SlotTable::Placeable() const {
  const auto unpinned = std::count_if(staging_.begin(), staging_.end(),
                                      [&](int32_t key) { return pins_[static_cast<size_t>(key)] == 0; });
  return static_cast<int32_t>(free_.size()) + static_cast<int32_t>(unpinned);
}

std::optional<SlotTable::Placed> SlotTable::Place(int32_t key, bool look_ahead) {
  MORAINE_CHECK(Find(key).value < 0);
  Placed placed;
  if (free_.empty()) {
    const auto victim = std::find_if(staging_.begin(), staging_.end(),
                                     [&](int32_t staged) { return pins_[static_cast<size_t>(staged)] == 0; });
    if (victim == staging_.end()) return std::nullopt;
    placed.evicted = *victim;
    Vacate(*victim);
  }
  placed.slot = SlotId{free_.back()};
  free_.pop_back();
  const auto k = static_cast<size_t>(key);
  slot_of_[k] = placed.slot.value;
  key_of_[static_cast<size_t>(placed.slot.value)] = key;
  uses_[k] = 0;
  guessed_[k] = look_ahead ? 1 : 0;
  if (look_ahead) ++counters_.look_ahead;
  staging_.push_back(key);
  Pin(key);
  return placed;
}

void SlotTable::Unpin(int32_t key) {
  MORAINE_CHECK(pins_[static_cast<size_t>(key)] > 0);
  --pins_[static_cast<size_t>(key)];
}

void SlotTable::Use(int32_t key, int32_t uses, bool hit) {
  const auto k = static_cast<size_t>(key);
  MORAINE_CHECK(slot_of_[k] >= 0);
  ++(hit ? counters_.hits : counters_.misses);
  if (guessed_[k] != 0) ++counters_.look_ahead_used;
  guessed_[k] = 0;
  uses_[k] = static_cast<uint8_t>(std::min(2, uses_[k] + 1));
  eviction_->Use(key, uses);
  if (kept_[k] == 0 && std::find(newcomers_.begin(), newcomers_.end(), key) == newcomers_.end())
    newcomers_.push_back(key);
}

// The best newcomers against the worst kept keys; each kept key may lose its place once.
void SlotTable::Settle() {
  if (newcomers_.empty()) return;
  std::erase_if(newcomers_, [&](int32_t key) {
    const auto k = static_cast<size_t>(key);
    return slot_of_[k] < 0 || kept_[k] != 0 || (options_.second_touch && uses_[k] < 2);
  });
  const auto count = newcomers_.size();
  eviction_->Scores(newcomers_, std::span(newcomer_scores_).first(count));
  std::span<double> scores = std::span(scores_).first(kept_keys_.size());
  bool scored = false;
  for (size_t i = 0; i < count; ++i) {
    const int32_t key = newcomers_[i];
    if (static_cast<int32_t>(kept_keys_.size()) < most_kept_) {
      Keep(key);
      continue;
    }
    if (most_kept_ == 0) break;
    if (!std::exchange(scored, true)) {
      scores = std::span(scores_).first(kept_keys_.size());
      eviction_->Scores(kept_keys_, scores);
    }
    size_t worst = kept_keys_.size();
    for (size_t at = 0; at < kept_keys_.size(); ++at) {
      const int32_t layer = LayerOf(kept_keys_[at]);
      if (pins_[static_cast<size_t>(kept_keys_[at])] > 0) continue;
      if (layer != LayerOf(key) && kept_in_layer_[static_cast<size_t>(layer)] <= options_.floor) continue;
      if (worst == kept_keys_.size() || scores[at] < scores[worst]) worst = at;
    }
    if (worst == kept_keys_.size() || newcomer_scores_[i] <= eviction_->margin() * scores[worst]) continue;
    // The newcomer takes the victim's place in the list, so that `scores` goes on to match.
    const int32_t victim = kept_keys_[worst];
    Demote(victim);
    Keep(key);
    MORAINE_CHECK(kept_at_[static_cast<size_t>(key)] == static_cast<int32_t>(kept_keys_.size()) - 1);
    std::swap(scores[worst], scores[kept_keys_.size() - 1]);
    scores[kept_keys_.size() - 1] = newcomer_scores_[i];
    ++counters_.promoted;
  }
  newcomers_.clear();
}

// Out of staging, into kept_keys_ at its end.
void SlotTable::Keep(int32_t key) {
  std::erase(staging_, key);
  const auto k = static_cast<size_t>(key);
  kept_[k] = 1;
  kept_at_[k] = static_cast<int32_t>(kept_keys_.size());
  kept_keys_.push_back(key);
  ++kept_in_layer_[static_cast<size_t>(LayerOf(key))];
}

// Out of kept_keys_ (its last moves to the gap), to the end of staging.
void SlotTable::Demote(int32_t key) {
  const auto k = static_cast<size_t>(key);
  const auto at = static_cast<size_t>(kept_at_[k]);
  kept_keys_[at] = kept_keys_.back();
  kept_at_[static_cast<size_t>(kept_keys_[at])] = static_cast<int32_t>(at);
  kept_keys_.pop_back();
  kept_at_[k] = -1;
  kept_[k] = 0;
  --kept_in_layer_[static_cast<size_t>(LayerOf(key))];
  staging_.push_back(key);
}

void SlotTable::Vacate(int32_t key) {
  const auto k = static_cast<size_t>(key);
  std::erase(staging_, key);
  free_.push_back(slot_of_[k]);
  key_of_[static_cast<size_t>(slot_of_[k])] = -1;
  slot_of_[k] = -1;
  guessed_[k] = 0;
}

void SlotTable::Forget(int32_t key) {
  const auto k = static_cast<size_t>(key);
  MORAINE_CHECK(slot_of_[k] >= 0 && pins_[k] == 0);
  if (kept_[k] != 0) Demote(key);
  std::erase(newcomers_, key);
  Vacate(key);
}

}  // namespace moraine
