#include "cpu/cpu_quota.h"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "cpu/topology.h"
#include "runtime/core/cgroup.h"

namespace moraine {
namespace {

void Lower(std::optional<double>& least, double quota, double period) {
  if (quota <= 0 || period <= 0) return;
  least = std::min(least.value_or(quota / period), quota / period);
}

// "max 100000" or "150000 100000".
void ReadMax(const std::string& folder, std::optional<double>& least) {
  std::ifstream file(folder + "/cpu.max");
  double quota = 0;
  double period = 0;
  if (file >> quota >> period) Lower(least, quota, period);
}

void ReadCfs(const std::string& folder, std::optional<double>& least) {
  std::ifstream quota_file(folder + "/cpu.cfs_quota_us");
  std::ifstream period_file(folder + "/cpu.cfs_period_us");
  double quota = 0;
  double period = 0;
  if (quota_file >> quota && period_file >> period) Lower(least, quota, period);
}

}  // namespace

std::optional<double> CpuQuota(const std::string& root) {
  std::optional<double> least;
  for (const CgroupFolder& folder : CgroupFolders("cpu", root))
    folder.v2 ? ReadMax(folder.path, least) : ReadCfs(folder.path, least);
  return least;
}

int DefaultWorkers(const Topology& topology, const std::optional<double>& quota) {
  const int cores = topology.cores();
  return quota ? std::clamp(static_cast<int>(std::ceil(*quota)), 1, cores) : cores;
}

}  // namespace moraine
