// JSON whose members keep the order they are written in.
#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string_view>

#include "runtime/core/result.h"

namespace moraine {

struct OrderedJsonLimits {
  std::size_t max_values = std::size_t{64} << 10;
  std::size_t max_bytes = std::size_t{64} << 10;  // of names and strings together
};

/// The value that `text` spells. kUsage naming `what` if it is over the limits; stops reading there.
/// REQUIRES: ParseJson (json_guard.h) has accepted `text`, or what it lies in. Linear, where the library's
/// own looks for each name among those before it; any thread.
Result<nlohmann::ordered_json> ParseOrderedJson(std::string_view text, std::string_view what,
                                                const OrderedJsonLimits& limits = {});

}  // namespace moraine
