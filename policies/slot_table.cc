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
  kept_keys_.resize(n);
  layer_of_.resize(n);
  for (int32_t key = 0; key < keys; ++key) layer_of_[static_cast<size_t>(key)] = key / options.experts;
  newcomers_.reserve(static_cast<size_t>(options.slots));
  is_newcomer_.assign(n, 0);
  scores_.resize(n);
  ranked_.reserve(static_cast<size_t>(options.slots));
  worst_.resize(static_cast<size_t>(options.layers));
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
  if (slots() >= keys()) Keep(key);  // nobody will ever want its slot
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
  if (kept_[k] == 0 && std::exchange(is_newcomer_[k], 1) == 0) newcomers_.push_back(key);
}

void SlotTable::Settle() {
  RankNewcomers();
  size_t next = 0;
  for (; next < ranked_.size() && kept_count_ < most_kept_; ++next) Keep(ranked_[next].key);
  if (next < ranked_.size() && most_kept_ > 0) {
    for (size_t layer = 0; layer < worst_.size(); ++layer) {
      const auto first = layer * static_cast<size_t>(options_.experts);
      const auto count = static_cast<size_t>(kept_in_layer_[layer]);
      eviction_->Scores(std::span(kept_keys_).subspan(first, count),
                        std::span(scores_).subspan(first, count));
      FindWorst(layer);
    }
    for (; next < ranked_.size(); ++next) {
      const std::optional<size_t> layer = LayerToTakeFrom(ranked_[next]);
      if (!layer) continue;
      Demote(worst_[*layer].key);
      Keep(ranked_[next].key);
      scores_[KeptIndex(ranked_[next].key)] = ranked_[next].score;
      FindWorst(*layer);
      ++counters_.promoted;
    }
  }
  for (const int32_t key : newcomers_) is_newcomer_[static_cast<size_t>(key)] = 0;
  newcomers_.clear();
}

void SlotTable::RankNewcomers() {
  ranked_.clear();
  if (newcomers_.empty()) return;
  const std::span<double> scores = std::span(scores_).first(newcomers_.size());
  eviction_->Scores(newcomers_, scores);
  for (size_t i = 0; i < newcomers_.size(); ++i) {
    const int32_t key = newcomers_[i];
    if (options_.second_touch && uses_[static_cast<size_t>(key)] < 2) continue;
    ranked_.push_back({scores[i], key});
  }
  std::sort(ranked_.begin(), ranked_.end(), Better);
}

void SlotTable::FindWorst(size_t layer) {
  const auto first = layer * static_cast<size_t>(options_.experts);
  Candidate worst{0, -1};
  for (size_t i = first; i < first + static_cast<size_t>(kept_in_layer_[layer]); ++i) {
    const Candidate candidate{scores_[i], kept_keys_[i]};
    if (worst.key >= 0 && Better(candidate, worst)) continue;
    if (pins_[static_cast<size_t>(candidate.key)] == 0) worst = candidate;
  }
  worst_[layer] = worst;
}

// The layer whose worst key `newcomer` beats and may replace: its own, or one above its floor.
std::optional<size_t> SlotTable::LayerToTakeFrom(const Candidate& newcomer) const {
  std::optional<size_t> from;
  for (size_t layer = 0; layer < worst_.size(); ++layer) {
    if (worst_[layer].key < 0) continue;
    if (layer != LayerOf(newcomer.key) && kept_in_layer_[layer] <= options_.floor) continue;
    if (!from || Better(worst_[*from], worst_[layer])) from = layer;
  }
  if (from && newcomer.score <= eviction_->margin() * worst_[*from].score) from.reset();
  return from;
}

// Out of staging, into its layer's kept keys at their end.
void SlotTable::Keep(int32_t key) {
  std::erase(staging_, key);
  const auto k = static_cast<size_t>(key);
  kept_[k] = 1;
  kept_at_[k] = kept_in_layer_[LayerOf(key)]++;
  kept_keys_[KeptIndex(key)] = key;
  ++kept_count_;
}

// Out of its layer's kept keys (their last moves to the gap, and its score), to the end of staging.
void SlotTable::Demote(int32_t key) {
  const auto k = static_cast<size_t>(key);
  const size_t gap = KeptIndex(key);
  const int32_t last = --kept_in_layer_[LayerOf(key)];
  const size_t end = gap + static_cast<size_t>(last - kept_at_[k]);
  kept_keys_[gap] = kept_keys_[end];
  scores_[gap] = scores_[end];
  kept_at_[static_cast<size_t>(kept_keys_[gap])] = kept_at_[k];
  kept_at_[k] = -1;
  kept_[k] = 0;
  --kept_count_;
  staging_.push_back(key);
}

void SlotTable::Vacate(int32_t key) {
  const auto k = static_cast<size_t>(key);
  std::erase(staging_, key);
  if (std::exchange(is_newcomer_[k], 0) != 0) std::erase(newcomers_, key);
  free_.push_back(slot_of_[k]);
  key_of_[static_cast<size_t>(slot_of_[k])] = -1;
  slot_of_[k] = -1;
  guessed_[k] = 0;
}

void SlotTable::Forget(int32_t key) {
  const auto k = static_cast<size_t>(key);
  MORAINE_CHECK(slot_of_[k] >= 0 && pins_[k] == 0);
  if (kept_[k] != 0) Demote(key);
  Vacate(key);
}

}  // namespace moraine
