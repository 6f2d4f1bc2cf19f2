// Replay: a trace through SlotTable and LayerAccess, as the engine drives them.
#pragma once

#include <cstdint>
#include <vector>

#include "policies/eviction.h"
#include "policies/routing_trace.h"
#include "policies/slot_table.h"

namespace moraine {

struct ReplayCounters {
  int64_t tokens = 0;  // rows
  int64_t hits = 0;
  int64_t misses = 0;
};

struct ReplayResult {
  SlotCounters all;
  ReplayCounters decode;   // of steps with one row a sequence
  ReplayCounters prefill;  // of the others
  int64_t batches = 0;     // layers count one, and one more for every time staging ran out
};

/// kUsage for what MakeEviction refuses. `slots` has the trace's layers and experts.
Result<ReplayResult> Replay(const RoutingTrace& trace, const SlotTableOptions& slots,
                            const EvictionOptions& eviction);

/// Uses of every key, rows counted one by one: what hindsight would pin.
std::vector<float> CountUses(const RoutingTrace& trace);

}  // namespace moraine
