// How many processors' time the cgroup grants this process.
#pragma once

#include <optional>
#include <string>

namespace moraine {

class Topology;

/// The smallest quota / period of this process's cgroup and its ancestors, v2 (cpu.max) and v1
/// (cpu.cfs_quota_us); empty when none limits it or nothing can be read. `root` stands for "/" in tests:
/// files root/proc/self/cgroup and root/sys/fs/cgroup/... are read.
std::optional<double> CpuQuota(const std::string& root = "");

/// Workers when nobody says how many: one a core, no more than the quota. More would stop every worker of a
/// wave for the rest of each period.
int DefaultWorkers(const Topology& topology, const std::optional<double>& quota);

}  // namespace moraine
