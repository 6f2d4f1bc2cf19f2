#include "policies/belady.h"

#include <algorithm>
#include <limits>
#include <queue>
#include <utility>
#include <vector>

#include "runtime/core/check.h"

namespace moraine {
namespace {

constexpr size_t kNever = std::numeric_limits<size_t>::max();

// Calls `hit(i)` for every use that finds its key.
template <typename Hit>
void Run(std::span<const int32_t> uses, int32_t keys, int32_t slots, bool bypass, const Hit& hit) {
  MORAINE_CHECK(slots > 0);
  std::vector<size_t> next_use(uses.size());  // of the same key, after this one
  std::vector<size_t> upcoming(static_cast<size_t>(keys), kNever);
  for (size_t i = uses.size(); i > 0; --i)
    next_use[i - 1] = std::exchange(upcoming[static_cast<size_t>(uses[i - 1])], i - 1);

  std::vector<uint8_t> held(static_cast<size_t>(keys));
  std::vector<size_t> next(static_cast<size_t>(keys), kNever);  // of held keys
  // The held key with the latest next use in front; entries that a later use outdated are skipped.
  std::priority_queue<std::pair<size_t, int32_t>> latest;
  int32_t count = 0;
  for (size_t i = 0; i < uses.size(); ++i) {
    const auto key = static_cast<size_t>(uses[i]);
    if (held[key] != 0) {
      hit(i);
    } else if (count == slots) {
      while (held[static_cast<size_t>(latest.top().second)] == 0 ||
             next[static_cast<size_t>(latest.top().second)] != latest.top().first)
        latest.pop();
      if (bypass && latest.top().first <= next_use[i]) continue;
      held[static_cast<size_t>(latest.top().second)] = 0;
      latest.pop();
    } else {
      ++count;
    }
    held[key] = 1;
    next[key] = next_use[i];
    latest.emplace(next_use[i], uses[i]);
  }
}

}  // namespace

int64_t BeladyOfKeys(std::span<const int32_t> uses, int32_t keys, int32_t slots, bool bypass) {
  int64_t hits = 0;
  Run(uses, keys, slots, bypass, [&](size_t) { ++hits; });
  return hits;
}

BeladyHits Belady(const RoutingTrace& trace, int32_t slots, bool bypass) {
  BeladyHits result;
  std::vector<int32_t> uses;
  std::vector<uint8_t> decode;
  std::vector<int32_t> distinct;
  for (const RoutingTrace::Step& step : trace.steps) {
    for (const RoutingTrace::Layer& layer : step.layers) {
      const std::span<const int32_t> chosen = trace.Chosen(step, layer);
      distinct.assign(chosen.begin(), chosen.end());
      std::sort(distinct.begin(), distinct.end());
      distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
      for (const int32_t expert : distinct) uses.push_back(layer.layer * trace.experts + expert);
      decode.resize(uses.size(), step.decode ? 1 : 0);
      if (step.decode) result.decode_accesses += static_cast<int64_t>(distinct.size());
    }
  }
  result.accesses = static_cast<int64_t>(uses.size());
  Run(uses, trace.layers * trace.experts, slots, bypass, [&](size_t i) {
    ++result.hits;
    result.decode_hits += decode[i];
  });
  return result;
}

}  // namespace moraine
