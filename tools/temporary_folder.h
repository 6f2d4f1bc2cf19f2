// A folder that goes when its owner does, whatever is in it.
#pragma once

#include <filesystem>
#include <string>

#include "runtime/core/result.h"

namespace moraine::tools {

/// Move-only. A process that is killed leaves the folder.
class TemporaryFolder {
 public:
  /// A new folder "moraine-<purpose>-XXXXXX" inside `parent`; empty: $TMPDIR, or /tmp. kIo says what the
  /// system refused.
  static Result<TemporaryFolder> Create(const std::string& parent, const std::string& purpose);
  TemporaryFolder(TemporaryFolder&& other) noexcept;
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder();

  std::string path() const { return path_.string(); }

 private:
  explicit TemporaryFolder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;  // empty: moved from
};

}  // namespace moraine::tools
