#include "tools/user_file.h"

#include <fmt/core.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "runtime/core/printable.h"

namespace moraine::tools {

namespace fs = std::filesystem;

std::string UserFile(const char* variable, const char* fallback, const char* name) {
  const char* folder = std::getenv(variable);
  if (folder != nullptr && *folder == '/') return fmt::format("{}/moraine/{}", folder, name);
  const char* home = std::getenv("HOME");
  return home == nullptr || *home != '/' ? "" : fmt::format("{}/{}/moraine/{}", home, fallback, name);
}

Status MakeFoldersOf(const std::string& path) {
  fs::path at;
  for (const fs::path& part : fs::path(path).parent_path()) {
    at /= part;
    if (::mkdir(at.c_str(), 0700) == 0 || errno == EEXIST) continue;
    const int error = errno;
    std::error_code ignored;
    if (fs::is_directory(at, ignored)) continue;
    return Fail(ErrorKind::kIo,
                fmt::format("{}: cannot be made: {}", Printable(at.string()), std::strerror(error)));
  }
  return {};
}

}  // namespace moraine::tools
