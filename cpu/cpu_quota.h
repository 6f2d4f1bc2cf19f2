// How many processors' time the cgroup grants this process.
#pragma once

#include <optional>
#include <string>

namespace moraine {

/// The smallest quota / period of this process's cgroup and its ancestors, v2 (cpu.max) and v1
/// (cpu.cfs_quota_us); empty when none limits it or nothing can be read. `root` stands for "/" in tests:
/// files root/proc/self/cgroup and root/sys/fs/cgroup/... are read.
std::optional<double> CpuQuota(const std::string& root = "");

}  // namespace moraine
