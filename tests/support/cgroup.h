// A cgroup of a test's own, to run a process under a limit that the kernel really keeps.
#pragma once

#include <memory>
#include <string>

namespace moraine::test {

/// A child of this process's own group, version 1 or 2. The destructor removes it; its processes must have
/// ended. What a killed test left behind is removed when the next one makes a group.
class Cgroup {
 public:
  /// With the controller "cpu" or "cpuset". Null where this user or this container may not: then `why` says.
  static std::unique_ptr<Cgroup> Make(const std::string& controller, std::string* why);
  ~Cgroup();
  Cgroup(const Cgroup&) = delete;
  Cgroup& operator=(const Cgroup&) = delete;

  /// No more than `cpus` processors' time in each tenth of a second.
  bool SetQuota(double cpus);
  /// Only this processor.
  bool SetCpu(int cpu);
  /// Moves the calling process in. Between fork and exec: only its own memory is touched.
  bool Enter() const;

 private:
  explicit Cgroup(std::string folder) : folder_(std::move(folder)), procs_(folder_ + "/cgroup.procs") {}
  bool Write(const std::string& file, const std::string& text) const;
  bool Has(const std::string& file) const;

  std::string folder_;
  std::string procs_;
};

}  // namespace moraine::test
