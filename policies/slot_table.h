// SlotTable: which expert is in which slot, and who makes room for whom. Pure: the engine and the replay of a
// trace run this same code, so their counters agree.
//
// A slot is free, kept or staging. A missing expert always lands in a staging slot (the one filled longest
// ago), and only Settle, after its layer has run, decides whether it becomes kept; then the kept key it beat
// becomes staging, and stays usable until its slot is needed. Of keys with equal scores the lower stays.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "policies/eviction.h"
#include "runtime/core/ids.h"

namespace moraine {

struct SlotTableOptions {
  int32_t layers = 0;         // that have experts
  int32_t experts = 0;        // of each; key = layer * experts + expert
  int32_t slots = 0;          // at least one
  int32_t staging = 0;        // of them; at least one where slots < keys
  int32_t floor = 0;          // kept keys of a layer that other layers cannot take; fewer where slots are few
  bool second_touch = false;  // a newcomer is kept only from its second use on
};

struct SlotCounters {
  int64_t hits = 0;             // uses of a key that was there
  int64_t misses = 0;           // uses that needed Place first
  int64_t promoted = 0;         // newcomers that became kept against another key
  int64_t look_ahead = 0;       // keys placed by a guess
  int64_t look_ahead_used = 0;  // of them, used before they left
};

/// Calls come from one thread and allocate nothing.
class SlotTable {
 public:
  SlotTable(const SlotTableOptions& options, std::unique_ptr<Eviction> eviction);

  int32_t keys() const { return static_cast<int32_t>(slot_of_.size()); }
  int32_t slots() const { return static_cast<int32_t>(key_of_.size()); }
  int32_t experts() const { return options_.experts; }

  /// Its slot; value -1 when absent.
  SlotId Find(int32_t key) const { return SlotId{slot_of_[static_cast<size_t>(key)]}; }

  struct Placed {
    SlotId slot;
    int32_t evicted = -1;  // the key that lost the slot, -1: it was free
  };
  /// Gives an absent key a slot and pins it once. Empty when every slot it could have is pinned.
  /// `look_ahead`: a guess, not a need.
  std::optional<Placed> Place(int32_t key, bool look_ahead = false);
  /// Slots Place could still give without an Unpin or Settle.
  int32_t Placeable() const;

  /// A pinned key keeps its slot. Pins are counted.
  void Pin(int32_t key) { ++pins_[static_cast<size_t>(key)]; }
  void Unpin(int32_t key);

  /// Tokens begin / a present key is used: see Eviction. `hit`: it was there without Place.
  void Tick(int32_t tokens) { eviction_->Tick(tokens); }
  void Use(int32_t key, int32_t uses, bool hit);
  /// After a layer's experts have run: staging keys used since the last Settle may become kept, the best
  /// first, each against the worst kept key that may go. One pass over the kept keys.
  void Settle();

  /// Its slot is free again (its bytes could not be read). REQUIRES not pinned.
  void Forget(int32_t key);

  const SlotCounters& counters() const { return counters_; }
  bool Kept(int32_t key) const { return kept_[static_cast<size_t>(key)]; }

 private:
  struct Candidate {
    double score;
    int32_t key;
  };
  // Whether `a` deserves its place more than `b` does.
  static bool Better(const Candidate& a, const Candidate& b) {
    return a.score != b.score ? a.score > b.score : a.key < b.key;
  }

  size_t LayerOf(int32_t key) const { return static_cast<size_t>(layer_of_[static_cast<size_t>(key)]); }
  size_t KeptIndex(int32_t key) const {
    return LayerOf(key) * static_cast<size_t>(options_.experts) +
           static_cast<size_t>(kept_at_[static_cast<size_t>(key)]);
  }
  void RankNewcomers();
  void FindWorst(size_t layer);
  std::optional<size_t> LayerToTakeFrom(const Candidate& newcomer) const;
  void Keep(int32_t key);
  void Demote(int32_t key);
  void Vacate(int32_t key);

  SlotTableOptions options_;
  std::unique_ptr<Eviction> eviction_;
  std::vector<int32_t> slot_of_;        // [key], -1: absent
  std::vector<int32_t> key_of_;         // [slot], -1: free
  std::vector<int32_t> pins_;           // [key]
  std::vector<uint8_t> kept_;           // [key]
  std::vector<uint8_t> guessed_;        // [key] placed by a guess and not yet used
  std::vector<uint8_t> uses_;           // [key] since it was placed, up to two
  std::vector<int32_t> layer_of_;       // [key]
  std::vector<int32_t> free_;           // slots; the last is given first
  std::vector<int32_t> staging_;        // keys, the one to go first in front
  std::vector<int32_t> kept_keys_;      // [layer * experts + i], i < kept_in_layer_[layer]: in any order
  std::vector<int32_t> kept_at_;        // [key] its i
  std::vector<int32_t> kept_in_layer_;  // [layer]
  int32_t kept_count_ = 0;
  std::vector<int32_t> newcomers_;    // staging keys used since the last Settle
  std::vector<uint8_t> is_newcomer_;  // [key]
  std::vector<double> scores_;        // beside newcomers_, then beside kept_keys_
  std::vector<Candidate> ranked_;     // newcomers, the best first
  std::vector<Candidate> worst_;      // [layer] its worst kept key that no pin holds; key -1: none
  int32_t most_kept_;
  SlotCounters counters_;
};

}  // namespace moraine
