// Names that nobody can guess.
#pragma once

#include <string>
#include <string_view>

namespace moraine {

/// `prefix` and 24 letters and digits from the system's random source (over 120 bits). Any thread.
std::string RandomId(std::string_view prefix);

}  // namespace moraine
