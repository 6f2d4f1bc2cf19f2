// PrefixCache: sequences whose requests have ended, for those that begin alike.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "runtime/engine.h"

namespace moraine {

/// Keeps KV pages alive that nobody is using; they are the engine's, so DropOldest is called when it has none
/// left. Every entry belongs to a client and is found by no other: the time a prompt takes must not tell what
/// others have asked. One thread; ends before the engine.
class PrefixCache {
 public:
  /// Tokens of all entries, 4 bytes each, and entries: oldest go first beyond.
  static constexpr int64_t kMostTokens = int64_t{2} << 20;
  static constexpr size_t kMostEntries = 256;

  struct Match {
    const Sequence* sequence;  // valid until the next call
    int64_t length;            // of its first tokens, the prompt's
  };

  /// `sequence` holds the first sequence.length() of `tokens`. Entries of the client that say no more than
  /// this one go; where it says no more than another, it goes itself.
  void Keep(const std::string& client, std::span<const int32_t> tokens, Sequence sequence);

  /// The client's entry with the longest common beginning with `prompt`, if `least` tokens or more.
  std::optional<Match> Find(const std::string& client, std::span<const int32_t> prompt, int64_t least);

  /// Lets go of what was kept or found longest ago; false when nothing is left.
  bool DropOldest();

  size_t entries() const { return entries_.size(); }

 private:
  struct Entry {
    std::string client;
    std::vector<int32_t> tokens;
    Sequence sequence;
  };
  void Erase(std::list<Entry>::iterator entry);

  std::list<Entry> entries_;  // oldest first
  int64_t tokens_ = 0;
};

}  // namespace moraine
