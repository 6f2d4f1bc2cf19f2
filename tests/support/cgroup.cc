#include "tests/support/cgroup.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

namespace moraine::test {
namespace {

namespace fs = std::filesystem;

const std::string kMount = "/sys/fs/cgroup";
const std::string kPrefix = "moraine-test-";

// Folders that may be this process's group under `controller`, likeliest first: version 1 hierarchies that
// carry it, then version 2. A container often shows its own group as the mount's root.
std::vector<std::string> OwnGroups(const std::string& controller) {
  std::vector<std::string> ones;
  std::vector<std::string> twos;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    std::istringstream fields(line);
    std::string number;
    std::string controllers;
    std::string path;
    std::getline(fields, number, ':');
    std::getline(fields, controllers, ':');
    std::getline(fields, path);
    if (controllers.empty()) {
      twos = {kMount + path, kMount};
    } else if ((',' + controllers + ',').find(',' + controller + ',') != std::string::npos) {
      for (const std::string& folder : {controllers, controller})
        ones.insert(ones.end(),
                    {fmt::format("{}/{}{}", kMount, folder, path), fmt::format("{}/{}", kMount, folder)});
    }
  }
  ones.insert(ones.end(), twos.begin(), twos.end());
  return ones;
}

void RemoveLeftOvers(const std::string& parent) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(parent, error)) {
    const std::string name = entry.path().filename();
    if (name.rfind(kPrefix, 0) != 0) continue;
    // Of a test that still runs: not ours to remove.
    if (fs::exists("/proc/" + name.substr(kPrefix.size()), error)) continue;
    ::rmdir(entry.path().c_str());
  }
}

}  // namespace

std::unique_ptr<Cgroup> Cgroup::Make(const std::string& controller, std::string* why) {
  std::vector<std::string> refused;
  const std::string file = controller == "cpu" ? "cpu.max" : "cpuset.cpus";
  const std::string file_of_one = controller == "cpu" ? "cpu.cfs_quota_us" : "cpuset.cpus";
  for (const std::string& parent : OwnGroups(controller)) {
    std::error_code error;
    if (!fs::is_directory(parent, error)) continue;
    RemoveLeftOvers(parent);
    const std::string folder = fmt::format("{}/{}{}", parent, kPrefix, ::getpid());
    if (!fs::create_directory(folder, error)) {
      refused.push_back(fmt::format("{}: {}", folder, error.message()));
      continue;
    }
    std::unique_ptr<Cgroup> group(new Cgroup(folder));
    if (group->Has(file) || group->Has(file_of_one)) return group;
    refused.push_back(fmt::format("{}: no controller \"{}\" there", folder, controller));
  }
  *why = refused.empty() ? fmt::format("no cgroup of this process is mounted under {}", kMount)
                         : fmt::format("{}", fmt::join(refused, "; "));
  return nullptr;
}

Cgroup::~Cgroup() {
  // The kernel lets go of an ended process a moment after its parent knows.
  for (int i = 0; i < 200 && ::rmdir(folder_.c_str()) != 0; ++i) ::usleep(10'000);
}

bool Cgroup::SetQuota(double cpus) {
  const auto quota = std::lround(cpus * 100'000);
  if (Has("cpu.max")) return Write("cpu.max", fmt::format("{} 100000", quota));
  return Write("cpu.cfs_period_us", "100000") && Write("cpu.cfs_quota_us", fmt::format("{}", quota));
}

bool Cgroup::SetCpu(int cpu) {
  // Version 1 starts without memory nodes, and nothing may enter before it has some.
  std::ifstream parent(fs::path(folder_).parent_path() / "cpuset.mems");
  std::string nodes;
  if (std::getline(parent, nodes) && !nodes.empty() && !Write("cpuset.mems", nodes)) return false;
  return Write("cpuset.cpus", fmt::format("{}", cpu));
}

bool Cgroup::Enter() const {
  const int procs = ::open(procs_.c_str(), O_WRONLY | O_CLOEXEC);
  const bool entered = procs >= 0 && ::write(procs, "0", 1) == 1;
  if (procs >= 0) ::close(procs);
  return entered;
}

bool Cgroup::Write(const std::string& file, const std::string& text) const {
  std::ofstream out(folder_ + '/' + file);
  return static_cast<bool>(out << text << std::flush);
}

bool Cgroup::Has(const std::string& file) const {
  std::error_code error;
  return fs::exists(folder_ + '/' + file, error);
}

}  // namespace moraine::test
