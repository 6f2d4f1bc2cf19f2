// Sizes, rates and times as people write them: a number and its unit, never a bare number.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/core/result.h"

namespace moraine {

/// "8GiB", "1.5GB", "123B" -> bytes. kUsage says what was expected of `text`; the caller says whose it is.
Result<int64_t> ParseBytes(std::string_view text);
/// "80GB/s", "7 GB/s", "2GiB/s" -> bytes a second, more than 0.
Result<double> ParseRate(std::string_view text);
/// "30s", "500ms", "250us", "5min" -> seconds.
Result<double> ParseSeconds(std::string_view text);

/// The same in the largest unit that loses nothing: 8589934592 -> "8GiB", 1500 -> "1500B".
std::string FormatBytes(int64_t bytes);
/// 30 -> "30s", 0.25 -> "250ms".
std::string FormatSeconds(double seconds);

}  // namespace moraine
