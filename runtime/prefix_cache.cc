#include "runtime/prefix_cache.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "runtime/core/check.h"

namespace moraine {
namespace {

int64_t Common(std::span<const int32_t> a, std::span<const int32_t> b) {
  const size_t most = std::min(a.size(), b.size());
  return std::mismatch(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(most), b.begin()).first - a.begin();
}

}  // namespace

void PrefixCache::Erase(std::list<Entry>::iterator entry) {
  tokens_ -= static_cast<int64_t>(entry->tokens.size());
  entries_.erase(entry);
}

void PrefixCache::Keep(const std::string& client, std::span<const int32_t> tokens, Sequence sequence) {
  const int64_t length = sequence.length();
  MORAINE_CHECK(length <= static_cast<int64_t>(tokens.size()));
  if (length == 0) return;
  tokens = tokens.first(static_cast<size_t>(length));
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const auto next = std::next(entry);
    if (entry->client == client) {
      const int64_t common = Common(entry->tokens, tokens);
      if (common == length) return entries_.splice(entries_.end(), entries_, entry);
      if (common == static_cast<int64_t>(entry->tokens.size())) Erase(entry);
    }
    entry = next;
  }
  entries_.push_back({client, {tokens.begin(), tokens.end()}, std::move(sequence)});
  tokens_ += length;
  while (tokens_ > kMostTokens || entries_.size() > kMostEntries) DropOldest();
}

std::optional<PrefixCache::Match> PrefixCache::Find(const std::string& client,
                                                    std::span<const int32_t> prompt, int64_t least) {
  auto best = entries_.end();
  int64_t length = 0;
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (entry->client != client) continue;
    const int64_t common = Common(entry->tokens, prompt);
    if (common < least || common <= length) continue;
    best = entry;
    length = common;
  }
  if (best == entries_.end()) return std::nullopt;
  entries_.splice(entries_.end(), entries_, best);
  return Match{&best->sequence, length};
}

bool PrefixCache::DropOldest() {
  if (entries_.empty()) return false;
  Erase(entries_.begin());
  return true;
}

}  // namespace moraine
