#include "policies/eviction.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "policies/eviction_ewma.h"
#include "policies/eviction_lfu.h"
#include "policies/eviction_lru.h"
#include "policies/eviction_pinned.h"

namespace moraine {
namespace {

constexpr std::array<std::string_view, 4> kNames = {"ewma", "lru", "lfu", "pinned"};

Status CheckRange(const char* name, double value, double least, double most) {
  if (value >= least && value <= most) return {};
  return Fail(ErrorKind::kUsage, fmt::format("{} is {}; expected {} to {}", name, value, least, most));
}

}  // namespace

std::span<const std::string_view> EvictionNames() { return kNames; }

Status CheckEviction(const EvictionOptions& options) {
  if (std::find(kNames.begin(), kNames.end(), options.policy) == kNames.end()) {
    return Fail(ErrorKind::kUsage, fmt::format("eviction policy \"{}\" is unknown; one of {}", options.policy,
                                               fmt::join(kNames, ", ")));
  }
  MORAINE_RETURN_IF_ERROR(CheckRange("half_life", options.half_life, 1, 1e9));
  MORAINE_RETURN_IF_ERROR(CheckRange("slow_half_life", options.slow_half_life, 1, 1e9));
  MORAINE_RETURN_IF_ERROR(CheckRange("slow_weight", options.slow_weight, 0, 100));
  MORAINE_RETURN_IF_ERROR(CheckRange("hysteresis", options.hysteresis, 0, 100));
  for (size_t i = 0; i < options.profile.size(); ++i) {
    if (options.profile[i] >= 0 && std::isfinite(options.profile[i])) continue;
    return Fail(ErrorKind::kUsage,
                fmt::format("profile[{}] is {}; expected 0 or more, and finite", i, options.profile[i]));
  }
  return {};
}

Result<std::unique_ptr<Eviction>> MakeEviction(const EvictionOptions& options, int32_t keys) {
  MORAINE_RETURN_IF_ERROR(CheckEviction(options));
  if (options.policy == "lru") return MakeLru(keys);
  if (options.policy == "lfu") return MakeLfu(keys);
  if (options.policy == "ewma") return MakeEwma(options, keys);
  if (options.profile.empty())
    return Fail(ErrorKind::kUsage, "policy pinned needs a profile: the uses of each expert, counted earlier");
  return MakePinned(options.profile, keys);
}

}  // namespace moraine
