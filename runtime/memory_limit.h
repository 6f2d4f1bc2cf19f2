// How much memory this process may hold, all in all.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "runtime/core/result.h"

namespace moraine {

struct MemoryLimit {
  int64_t bytes = 0;   // everything the process holds, what it holds already included
  std::string source;  // "MemAvailable", "cgroup /sys/fs/cgroup/a": what sets it
};

/// What this process holds now, in RAM (/proc/self/statm). 0 when unreadable.
int64_t ResidentBytes(const std::string& root = "");

/// The most this process can come to hold before a control group's limit kills it: over its group and all
/// above it, of version 1 and 2, the least of limit - usage (page cache does not count, it gives way) plus
/// what it holds now. Empty when nothing limits it.
std::optional<MemoryLimit> CgroupMemoryLimit(const std::string& root = "");

/// The smaller of that and of what the kernel expects to be able to give without swapping (MemAvailable).
/// kHardware when /proc/meminfo cannot be read. `root` stands for "/" in tests.
Result<MemoryLimit> FindMemoryLimit(const std::string& root = "");

}  // namespace moraine
