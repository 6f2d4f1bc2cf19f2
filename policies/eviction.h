// Eviction: which experts deserve a slot. Pure bookkeeping over keys; one file a policy.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/result.h"

namespace moraine {

struct EvictionOptions {
  std::string policy = "ewma";   // one of EvictionNames()
  double half_life = 16;         // tokens, 1 to 1e9; of ewma's fast score
  double slow_half_life = 4096;  // tokens, 1 to 1e9; of its slow score
  double slow_weight = 0.2;      // 0 to 100: score = fast + slow_weight * slow
  // 0 to 100; ewma: a newcomer must beat its victim by this share. 0 where it has been read anyway and
  // keeping it costs nothing (RAM); 0.3 saves most transfers where it costs one (VRAM).
  double hysteresis = 0;
  std::vector<float> profile;  // pinned: [keys] uses counted earlier, 0 or more; a key beyond it has none
};

/// Keys are 0 .. keys - 1 (layer * experts + expert). No thread, clock, file or randomness: the same calls
/// give the same answers, so a trace replays them. Memory is taken when made; calls allocate nothing.
class Eviction {
 public:
  virtual ~Eviction() = default;

  /// `tokens` >= 1 further tokens begin.
  virtual void Tick(int32_t tokens) = 0;
  /// The tokens since the last Tick used `key`, `uses` >= 0 of them counted. Zero is a use that should not
  /// weigh: a row of a long prompt.
  virtual void Use(int32_t key, int32_t uses) = 0;
  /// scores[i] of keys[i]: higher stays longer. Comparable within one call; never NaN.
  virtual void Scores(std::span<const int32_t> keys, std::span<double> scores) const = 0;
  /// A newcomer takes the place of a kept key when its score is over `margin()` times the other's.
  virtual double margin() const { return 1; }
};

/// kUsage names the option that is out of range, its value and the range; an unknown policy and the known
/// ones.
Status CheckEviction(const EvictionOptions& options);

/// For `keys` keys. Errors are CheckEviction's; `pinned` without a profile is kUsage too.
Result<std::unique_ptr<Eviction>> MakeEviction(const EvictionOptions& options, int32_t keys);

/// The names MakeEviction knows, the default first.
std::span<const std::string_view> EvictionNames();

}  // namespace moraine
