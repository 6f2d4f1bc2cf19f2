// Where the limits of this process's control group, and of all groups above it, are written.
#pragma once

#include <string>
#include <vector>

namespace moraine {

struct CgroupFolder {
  std::string path;
  bool v2 = false;
};

/// The folders of `controller` ("memory", "cpu") from this process's group up to the root, of version 2 and
/// of version 1 wherever that is mounted. Folders may be missing: a container often sees its own group as the
/// mount's root while /proc names the path outside, and the walk up ends at the mount either way. `root`
/// stands for "/" in tests: root/proc/self/cgroup is read, and paths begin with root/sys/fs/cgroup.
std::vector<CgroupFolder> CgroupFolders(const std::string& controller, const std::string& root = "");

}  // namespace moraine
