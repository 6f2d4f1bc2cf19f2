// The published configurations of models whose geometry `moraine synth` knows by name.
#pragma once

#include <string>
#include <string_view>

#include "runtime/core/result.h"

namespace moraine {

/// config.json of "deepseek-r1", "deepseek-v3", "v2-lite" or "moonlight". kUsage lists the names.
Result<std::string> KnownConfig(std::string_view name);

}  // namespace moraine
