#include "policies/replay.h"

#include <utility>

#include "policies/layer_access.h"
#include "runtime/core/check.h"

namespace moraine {

Result<ReplayResult> Replay(const RoutingTrace& trace, const SlotTableOptions& slots,
                            const EvictionOptions& eviction) {
  MORAINE_CHECK(slots.layers == trace.layers && slots.experts == trace.experts);
  MORAINE_ASSIGN_OR_RETURN(std::unique_ptr<Eviction> policy,
                           MakeEviction(eviction, trace.layers * trace.experts));
  SlotTable table(slots, std::move(policy));
  LayerAccess access(&table);
  ReplayResult result;
  for (const RoutingTrace::Step& step : trace.steps) {
    ReplayCounters& counters = step.decode ? result.decode : result.prefill;
    const SlotCounters before = table.counters();
    access.BeginStep(step.rows);
    for (const RoutingTrace::Layer& layer : step.layers) {
      access.BeginLayer(layer.layer, trace.Chosen(step, layer), trace.top_k);
      while (!access.Done()) {
        MORAINE_CHECK(!access.Next().empty());
        access.Release();
        ++result.batches;
      }
    }
    counters.tokens += step.rows;
    counters.hits += table.counters().hits - before.hits;
    counters.misses += table.counters().misses - before.misses;
  }
  result.all = table.counters();
  return result;
}

std::vector<float> CountUses(const RoutingTrace& trace) {
  std::vector<float> uses(static_cast<size_t>(trace.layers) * static_cast<size_t>(trace.experts));
  for (const RoutingTrace::Step& step : trace.steps)
    for (const RoutingTrace::Layer& layer : step.layers)
      for (const int32_t expert : trace.Chosen(step, layer)) {
        const int32_t key = layer.layer * trace.experts + expert;
        ++uses[static_cast<size_t>(key)];
      }
  return uses;
}

}  // namespace moraine
