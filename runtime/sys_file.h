// Small files of /proc and /sys as text.
#pragma once

#include <string>
#include <string_view>

namespace moraine {

/// The first line without blanks around it; empty when there is none.
std::string FirstLine(const std::string& path);

/// What stands behind the colon of the first line "name : value", without blanks around it; empty when there
/// is no such line.
std::string FieldOfFile(const std::string& path, std::string_view name);

}  // namespace moraine
