#include "tools/replace_file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "runtime/core/file.h"
#include "runtime/core/handle.h"
#include "runtime/core/printable.h"

namespace moraine::tools {
namespace {

Status Refused(const std::string& path, const char* what) {
  return Fail(ErrorKind::kIo,
              fmt::format("{}: cannot be {}: {}", Printable(path), what, std::strerror(errno)));
}

bool WriteAll(int fd, const std::string& text) {
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t wrote = ::write(fd, text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return false;
    done += static_cast<size_t>(wrote);
  }
  return ::fsync(fd) == 0;
}

}  // namespace

Status ReplaceFile(const std::string& path, const std::string& text) {
  std::string beside = fmt::format("{}.XXXXXX", path);
  const Handle<FdTraits> fd(::mkostemp(beside.data(), O_CLOEXEC));
  if (fd.get() < 0) return Refused(path, "made");
  // mkstemp's files are their owner's alone; this one is as any other the user writes.
  const mode_t mask = ::umask(0);
  ::umask(mask);
  const bool written = ::fchmod(fd.get(), 0666 & ~mask) == 0 && WriteAll(fd.get(), text) &&
                       ::rename(beside.c_str(), path.c_str()) == 0;
  if (written) return {};
  const Status refused = Refused(path, "written");
  ::unlink(beside.c_str());
  return refused;
}

}  // namespace moraine::tools
