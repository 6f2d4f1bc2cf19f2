// A trace through every policy at every size, and what each would cost.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "policies/eviction.h"
#include "policies/routing_trace.h"
#include "runtime/core/result.h"

namespace moraine::tools {

struct SweepOptions {
  std::vector<std::string> policies;  // of EvictionNames(), "belady" and "belady-bypass"
  std::vector<int32_t> slots;         // sizes; at least 1
  std::vector<std::string> floors;    // "0", a number, or "uniform": all slots divided over the layers
  int32_t staging = 16;               // of the slots, where they are fewer than keys; half of them at most
  bool second_touch = false;
  EvictionOptions eviction;  // but for its policy and profile
  int64_t expert_bytes = 0;
  double nvme = 6e9;     // bytes a second
  double memory = 80e9;  // bytes a second
};

struct SweepRow {
  std::string policy;
  std::string floor;
  int32_t slots = 0;
  double fraction = 0;  // of all experts
  int64_t tokens = 0;   // decode steps; of the prompt where a trace has no other
  int64_t hits = 0;
  int64_t misses = 0;
  int64_t promoted = 0;        // of the whole trace; 0 for bounds
  double bytes_per_token = 0;  // read from the drive
  double ms_after = 0;         // a token: the drive, then memory
  double ms_beside = 0;        // a token: both at once, perfectly

  double hit_rate() const {
    return hits + misses == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(hits + misses);
  }
};

/// A row for each policy, floor and size; bounds have no floors. `pinned` pins what the whole trace uses
/// most: hindsight, not a forecast. kUsage names the option that cannot be.
Result<std::vector<SweepRow>> Sweep(const RoutingTrace& trace, const SweepOptions& options);

/// A table for people.
std::string SweepText(const std::vector<SweepRow>& rows);
/// Hit rate over the share of experts that have a slot.
std::string SweepSvg(const std::string& title, const std::vector<SweepRow>& rows);

}  // namespace moraine::tools
