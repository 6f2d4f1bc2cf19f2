// One member of a JSON document, read with its own members in the order they are written.
#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <vector>

#include "runtime/core/result.h"

namespace moraine {

struct JsonMemberLimits {
  std::size_t max_values = std::size_t{64} << 10;
  std::size_t max_bytes = std::size_t{64} << 10;  // of names and strings together
};

/// The value at `path` (names in nested objects) of `text`; null if there is none. kUsage naming the path if
/// it is over the limits; stops reading there. REQUIRES: ParseJson (json_guard.h) has accepted `text`.
/// Linear; any thread.
Result<nlohmann::ordered_json> ReadOrderedMember(std::string_view text,
                                                 const std::vector<std::string_view>& path,
                                                 const JsonMemberLimits& limits = {});

}  // namespace moraine
