#include "tools/temporary_folder.h"

#include <fmt/core.h>
#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/core/printable.h"

namespace moraine::tools {

namespace fs = std::filesystem;

Result<TemporaryFolder> TemporaryFolder::Create(const std::string& parent, const std::string& purpose) {
  std::error_code error;
  const fs::path inside = parent.empty() ? fs::temp_directory_path(error) : fs::path(parent);
  std::string pattern = (inside / fmt::format("moraine-{}-XXXXXX", purpose)).string();
  if (error || ::mkdtemp(pattern.data()) == nullptr) {
    return Fail(
        ErrorKind::kIo,
        fmt::format("no temporary folder can be made in {}: {} (set TMPDIR to one that can be written)",
                    Printable(inside.string()), error ? error.message() : std::strerror(errno)));
  }
  return TemporaryFolder(pattern);
}

TemporaryFolder::TemporaryFolder(TemporaryFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

}  // namespace moraine::tools
