#include "runtime/memory_limit.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <initializer_list>
#include <string_view>

#include "runtime/core/cgroup.h"

namespace moraine {
namespace {

// Version 1 writes "no limit" as a number near 2^63.
constexpr int64_t kNoLimit = int64_t{1} << 60;

std::optional<int64_t> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  int64_t value = 0;
  if (file >> value && value >= 0 && value < kNoLimit) return value;
  return std::nullopt;  // missing, or "max"
}

// The sum of the named lines of a memory.stat.
int64_t SumOf(const std::string& path, std::initializer_list<std::string_view> names) {
  std::ifstream file(path);
  int64_t sum = 0;
  std::string name;
  int64_t value = 0;
  while (file >> name >> value) {
    if (std::find(names.begin(), names.end(), name) != names.end()) sum += value;
  }
  return sum;
}

std::optional<int64_t> MemAvailable(const std::string& root) {
  std::ifstream meminfo(root + "/proc/meminfo");
  std::string name;
  int64_t kib = 0;
  std::string rest;
  while (meminfo >> name >> kib && std::getline(meminfo, rest)) {
    if (name == "MemAvailable:") return kib * 1024;
  }
  return std::nullopt;
}

}  // namespace

int64_t ResidentBytes(const std::string& root) {
  std::ifstream statm(root + "/proc/self/statm");
  int64_t size = 0;
  int64_t resident = 0;
  return statm >> size >> resident ? resident * sysconf(_SC_PAGESIZE) : 0;
}

std::optional<MemoryLimit> CgroupMemoryLimit(const std::string& root) {
  std::optional<MemoryLimit> least;
  const int64_t held = ResidentBytes(root);
  for (const CgroupFolder& folder : CgroupFolders("memory", root)) {
    const std::string stat = folder.path + "/memory.stat";
    const auto limit = ReadNumber(folder.path + (folder.v2 ? "/memory.max" : "/memory.limit_in_bytes"));
    const auto usage = ReadNumber(folder.path + (folder.v2 ? "/memory.current" : "/memory.usage_in_bytes"));
    if (!limit || !usage) continue;
    const int64_t cache = folder.v2 ? SumOf(stat, {"active_file", "inactive_file", "slab_reclaimable"})
                                    : SumOf(stat, {"total_active_file", "total_inactive_file"});
    const int64_t bytes = std::max<int64_t>(0, *limit - std::max<int64_t>(0, *usage - cache) + held);
    if (!least || bytes < least->bytes) least = {std::min(bytes, *limit), "cgroup " + folder.path};
  }
  return least;
}

Result<MemoryLimit> FindMemoryLimit(const std::string& root) {
  const std::optional<int64_t> available = MemAvailable(root);
  if (!available)
    return Fail(ErrorKind::kHardware, "/proc/meminfo: no MemAvailable line; state the limit with --ram");
  MemoryLimit limit{*available + ResidentBytes(root), "MemAvailable"};
  if (auto group = CgroupMemoryLimit(root); group && group->bytes < limit.bytes) limit = *std::move(group);
  return limit;
}

}  // namespace moraine
