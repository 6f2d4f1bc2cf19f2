// One line on the terminal that says how far long work is.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace moraine::tools {

/// To be called with bytes done and bytes in all; false once the user has pressed Ctrl-C. On a terminal, a
/// bar on stderr after `label`, redrawn in whole percents and gone when the work is done.
std::function<bool(int64_t done, int64_t total)> ProgressBar(const std::string& label);

}  // namespace moraine::tools
