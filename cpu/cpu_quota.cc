#include "cpu/cpu_quota.h"

#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <sstream>

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

// A container often sees its own cgroup as the mount's root while /proc names the path outside: the walk up
// ends at the mount either way.
template <typename Read>
void WalkUp(const std::string& mount, std::string path, Read&& read) {
  while (true) {
    read(mount + path);
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return;
    path.resize(slash);
  }
}

}  // namespace

std::optional<double> CpuQuota(const std::string& root) {
  std::optional<double> least;
  std::ifstream groups(root + "/proc/self/cgroup");
  const std::string mount = root + "/sys/fs/cgroup";
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      WalkUp(mount, path, [&](const std::string& folder) { ReadMax(folder, least); });
      continue;
    }
    std::istringstream names(controllers);
    bool cpu = false;
    for (std::string name; std::getline(names, name, ',');) cpu = cpu || name == "cpu";
    if (!cpu) continue;
    for (const std::string& folder : {controllers, std::string("cpu")})
      WalkUp(fmt::format("{}/{}", mount, folder), path, [&](const std::string& at) { ReadCfs(at, least); });
  }
  return least;
}

}  // namespace moraine
