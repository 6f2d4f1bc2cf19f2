// A made-up "/" of /proc and /sys.
#pragma once

#include <filesystem>
#include <string>

#include "tests/support/temp_folder.h"

namespace moraine::test {

class FakeRoot {
 public:
  const std::string& path() const { return folder_.path(); }
  /// Paths are without the leading '/'; folders are made.
  void Put(const std::string& path, const std::string& text) const {
    MakeFolderOf(path);
    WriteFile(folder_ / path, text);
  }
  /// A symlink at `path` to `target`, also below this root.
  void Link(const std::string& path, const std::string& target) const {
    MakeFolderOf(path);
    std::filesystem::create_symlink(folder_ / target, folder_ / path);
  }

 private:
  void MakeFolderOf(const std::string& path) const {
    std::filesystem::create_directories(std::filesystem::path(folder_ / path).parent_path());
  }
  TempFolder folder_;
};

}  // namespace moraine::test
