// Belady's bound: the most hits any choice of victims could have, knowing the future (Belady 1966; Mattson et
// al. 1970). Slots are alike, so it is exact.
#pragma once

#include <cstdint>
#include <span>

#include "policies/routing_trace.h"

namespace moraine {

struct BeladyHits {
  int64_t accesses = 0;
  int64_t hits = 0;
  int64_t decode_accesses = 0;
  int64_t decode_hits = 0;
};

/// Hits of `slots` >= 1 slots over the distinct experts of every step and layer, ascending, one after
/// another. A key must take a slot when it is missing; with `bypass` it may also be used without (a staging
/// slot that is not counted), and then it does where its next use is the latest of all. O(n log n).
BeladyHits Belady(const RoutingTrace& trace, int32_t slots, bool bypass);

/// The same over plain keys, 0 .. keys - 1: hits only.
int64_t BeladyOfKeys(std::span<const int32_t> uses, int32_t keys, int32_t slots, bool bypass);

}  // namespace moraine
