#include "tools/whole_file.h"

#include <fmt/core.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "runtime/core/file.h"
#include "runtime/core/handle.h"
#include "runtime/core/printable.h"

namespace moraine::tools {
namespace {

bool WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    text.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

}  // namespace

Status WriteWhole(const std::string& path, const std::string& text, Readers readers) {
  const mode_t mode = readers == Readers::kAll ? 0644 : 0600;
  std::string beside = path + ".XXXXXX";
  const int made = ::mkstemp(beside.data());
  if (made < 0) {
    return Fail(ErrorKind::kIo,
                fmt::format("{}: no file can be made beside it: {}", Printable(path), std::strerror(errno)));
  }
  const Handle<FdTraits> fd(made);
  const bool written = WriteAll(made, text) && ::fchmod(made, mode) == 0 && ::fsync(made) == 0 &&
                       std::rename(beside.c_str(), path.c_str()) == 0;
  if (written) return {};
  const int error = errno;
  ::unlink(beside.c_str());
  return Fail(ErrorKind::kIo,
              fmt::format("{}: cannot be written: {}", Printable(path), std::strerror(error)));
}

}  // namespace moraine::tools
