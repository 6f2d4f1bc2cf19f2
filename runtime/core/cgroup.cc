#include "runtime/core/cgroup.h"

#include <fstream>
#include <sstream>

namespace moraine {
namespace {

void WalkUp(const std::string& mount, std::string path, bool v2, std::vector<CgroupFolder>* folders) {
  while (true) {
    folders->push_back({mount + path, v2});
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) return;
    path.resize(slash);
  }
}

bool Names(const std::string& controllers, const std::string& controller) {
  std::istringstream names(controllers);
  for (std::string name; std::getline(names, name, ',');) {
    if (name == controller) return true;
  }
  return false;
}

}  // namespace

std::vector<CgroupFolder> CgroupFolders(const std::string& controller, const std::string& root) {
  std::vector<CgroupFolder> folders;
  std::ifstream groups(root + "/proc/self/cgroup");
  const std::string mount = root + "/sys/fs/cgroup";
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      // With version 1 beside it, version 2 is mounted one folder down.
      for (const char* at : {"", "/unified"}) WalkUp(mount + at, path, true, &folders);
    } else if (Names(controllers, controller)) {
      for (const std::string& name : {controllers, controller}) {
        std::string at = mount;
        at.append("/").append(name);
        WalkUp(at, path, false, &folders);
        if (controllers == controller) break;
      }
    }
  }
  return folders;
}

}  // namespace moraine
