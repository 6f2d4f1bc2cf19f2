#include "tools/progress_bar.h"

#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>

#include "tools/interrupt.h"

namespace moraine::tools {

std::function<bool(int64_t, int64_t)> ProgressBar(const std::string& label) {
  const bool terminal = isatty(STDERR_FILENO) != 0;
  return [terminal, label, shown = -1](int64_t done, int64_t total) mutable {
    const int percent =
        total == 0 ? 100 : static_cast<int>(100.0 * static_cast<double>(done) / static_cast<double>(total));
    if (terminal && percent != shown) {
      shown = percent;
      fmt::print(stderr, "\r{} [{:<40}] {:3d} %", label,
                 std::string(static_cast<size_t>(percent * 2 / 5), '#'), percent);
      if (done == total) fmt::print(stderr, "\r\033[K");
      std::fflush(stderr);
    }
    return !Interrupted();
  };
}

}  // namespace moraine::tools
