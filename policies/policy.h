// Policy: all that a user may decide, as plain values. Empty: automatic. What each key means, its range and
// its default are one row in policy_keys.cc; `moraine policy keys` prints them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "policies/eviction.h"
#include "runtime/core/tensor_class.h"

namespace moraine {

enum class Tier : uint8_t { kVram, kRam, kNvme };
std::string_view Name(Tier tier);

/// Where weights of a class live, in layers first_layer .. last_layer. Of rules that overlap the later wins.
struct PlaceRule {
  TensorClass tensor_class = TensorClass::kRouted;
  int32_t first_layer = 0;
  int32_t last_layer = INT32_MAX;
  Tier tier = Tier::kRam;
  friend bool operator==(const PlaceRule&, const PlaceRule&) = default;
};

struct Policy {
  struct Memory {
    std::optional<int64_t> ram;     // bytes; the ceiling over everything
    std::optional<int64_t> vram;    // bytes
    std::optional<int64_t> margin;  // bytes left to others when the ceiling is automatic
    std::optional<std::string> hugepages;
    std::optional<bool> mlock;
  } memory;

  struct Context {
    std::optional<int64_t> tokens;
    std::optional<std::string> kv_type;
    std::optional<int64_t> slots;  // sequences at once
  } context;

  std::vector<PlaceRule> place;

  struct Cache {
    std::optional<std::string> policy;  // one of EvictionNames()
    std::optional<int64_t> slots;       // experts in RAM
    std::optional<double> half_life;    // tokens
    std::optional<double> slow_half_life;
    std::optional<double> slow_weight;
    std::optional<double> hysteresis;
    std::optional<int64_t> floor_ram;      // SlotTableOptions::floor
    std::optional<int64_t> floor_vram;     // the same of the VRAM tier
    std::optional<bool> second_touch;      // SlotTableOptions::second_touch
    std::optional<int64_t> staging;        // SlotTableOptions::staging
    std::optional<std::string> profile;    // a file
    std::optional<int64_t> upload_budget;  // experts a token, RAM to VRAM
  } cache;

  struct Io {
    std::optional<std::string> backend;  // uring, pread
    std::optional<int64_t> depth;        // chunks under way on a drive
    std::optional<int64_t> chunk;        // bytes
    std::optional<bool> direct;
    std::optional<int64_t> retry;
    std::optional<double> stall_timeout;  // seconds
  } io;

  struct Cpu {
    std::optional<int64_t> threads;
    std::optional<std::string> bind;
    std::optional<std::string> isa;
    std::optional<std::string> activations;
    std::optional<int64_t> switch_over;  // rows
  } cpu;

  struct Prefill {
    std::optional<std::string> mode;
    std::optional<int64_t> crossover;  // rows
    std::optional<int64_t> chunk;      // rows
  } prefill;

  struct Prefetch {
    std::optional<std::string> mode;   // off, next-gate
    std::optional<int64_t> width;      // guesses a row
    std::optional<double> min_useful;  // share of reads that must pay
  } prefetch;

  struct Serve {
    std::optional<int64_t> prefix_disk;  // bytes of prompts kept on the drive; 0: none
    std::optional<int64_t> queue;        // requests that may wait
    std::optional<double> grace;         // seconds for answers under way at the end
    std::optional<double> temperature;   // where a request names none
    std::optional<double> top_p;
  } serve;

  struct Speculation {
    std::optional<std::string> mode;
    std::optional<int64_t> max_draft;
  } speculation;

  struct Lossy {
    std::optional<int64_t> defer;        // experts whose output joins a layer later
    std::optional<int64_t> top_k;        // experts a token; 0: the model's
    std::optional<double> miss_drop;     // misses under this share of the gate are dropped
    std::optional<double> route_margin;  // resident experts are preferred by so much
    std::optional<std::string> cold_format;
  } lossy;

  struct Measured {
    std::optional<std::string> fingerprint;  // of the machine
    std::optional<std::string> date;
    std::map<std::string, double> figures;
  } measured;
};

/// What MakeEviction takes; keys that are automatic keep its defaults. The profile is left to the caller, who
/// may read files.
EvictionOptions EvictionOf(const Policy::Cache& cache);

}  // namespace moraine
