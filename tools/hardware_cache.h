// Measured rates kept from one run to the next: one JSON file.
#pragma once

#include <optional>
#include <string>

#include "runtime/core/result.h"
#include "tools/measure.h"

namespace moraine::tools {

/// $XDG_CACHE_HOME/moraine/hardware.json, or ~/.cache in its place; empty when neither variable is set.
std::string HardwareCachePath();

struct CachedRates {
  std::optional<MeasuredRates> rates;  // empty: none there, or not to be used
  std::string notice;  // then, unless there simply is none: why ("...: not JSON at byte 12; measured anew")
};

/// Never fails: what is corrupt, foreign or of another machine is a notice.
CachedRates LoadHardwareCache(const std::string& path, const std::string& fingerprint);

/// Writes `rates` over what is there, keeping figures of other drives of the same machine: to a file beside
/// it, then in its place, so that no reader ever sees half of it. Folders are made with mode 0700. kIo names
/// what the system refused.
Status SaveHardwareCache(const std::string& path, const MeasuredRates& rates);

}  // namespace moraine::tools
