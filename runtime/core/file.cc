#include "runtime/core/file.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "runtime/core/printable.h"

namespace moraine {
namespace {

// read(2) transfers at most 0x7ffff000 bytes; asking for less keeps every count well inside ssize_t.
constexpr size_t kMostPerRead = size_t{1} << 30;

std::string Reason(int error) { return std::generic_category().message(error); }

std::string_view KindOf(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  return "not a regular file";
}

FileIdentity IdentityOf(const struct stat& info) {
  return {.device = info.st_dev,
          .inode = info.st_ino,
          .bytes = info.st_size,
          .mtime_ns = int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec};
}

// Errors that say something about the machine rather than about the path.
bool IsSystemShortage(int error) {
  return error == EMFILE || error == ENFILE || error == ENOMEM || error == EIO || error == EINTR;
}

}  // namespace

void FdTraits::Close(int fd) noexcept { ::close(fd); }

Result<File> File::Open(const std::string& path) {
  const std::string shown = Printable(path);
  if (path.find('\0') != std::string::npos)
    return Fail(ErrorKind::kModel, fmt::format("{}: a path cannot hold a NUL byte", shown));
  // O_NONBLOCK: opening a FIFO for reading would otherwise wait for its writer. It has no effect on a regular
  // file.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) {
    const int error = errno;
    if (error == ENXIO)
      return Fail(ErrorKind::kModel, fmt::format("{}: a socket or device, not a regular file", shown));
    return Fail(IsSystemShortage(error) ? ErrorKind::kIo : ErrorKind::kModel,
                fmt::format("{}: cannot be opened: {}", shown, Reason(error)));
  }
  File file;
  file.fd_ = Handle<FdTraits>(fd);
  struct stat info {};
  if (::fstat(fd, &info) != 0)
    return Fail(ErrorKind::kIo, fmt::format("{}: fstat: {}", shown, Reason(errno)));
  if (!S_ISREG(info.st_mode)) {
    return Fail(ErrorKind::kModel,
                fmt::format("{}: is {}; expected a regular file", shown, KindOf(info.st_mode)));
  }
  file.path_ = path;
  file.identity_ = IdentityOf(info);
  return file;
}

Status File::ReadAt(int64_t offset, std::span<std::byte> out) const {
  size_t got = 0;
  while (got < out.size()) {
    const size_t want = std::min(out.size() - got, kMostPerRead);
    const ssize_t n = ::pread(fd_.get(), out.data() + got, want, offset + static_cast<int64_t>(got));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const std::string why = n < 0 ? Reason(errno) : "the file ends there";
      return Fail(ErrorKind::kIo, fmt::format("{}: reading {} bytes at offset {}: got {}: {}",
                                              Printable(path_), out.size(), offset, got, why));
    }
    got += static_cast<size_t>(n);
  }
  return {};
}

void File::Forget(int64_t offset, int64_t bytes) const {
  ::posix_fadvise(fd_.get(), offset, bytes, POSIX_FADV_DONTNEED);
}

Status File::CheckUnchanged() const {
  struct stat open_file {};
  struct stat at_path {};
  const std::string shown = Printable(path_);
  if (::fstat(fd_.get(), &open_file) != 0)
    return Fail(ErrorKind::kIo, fmt::format("{}: fstat: {}", shown, Reason(errno)));
  if (::stat(path_.c_str(), &at_path) != 0) {
    return Fail(ErrorKind::kIo,
                fmt::format("{}: was opened, but is gone from its path: {}", shown, Reason(errno)));
  }
  for (const FileIdentity& now : {IdentityOf(open_file), IdentityOf(at_path)}) {
    if (now == identity_) continue;
    return Fail(ErrorKind::kIo,
                fmt::format("{}: changed after it was opened: {} bytes of inode {} then, {} of {} now; start "
                            "again with the new files",
                            shown, identity_.bytes, identity_.inode, now.bytes, now.inode));
  }
  return {};
}

Result<std::string> ReadText(const File& file, int64_t max_bytes) {
  if (file.bytes() > max_bytes) {
    return Fail(ErrorKind::kModel, fmt::format("{}: {} bytes, over the limit of {} for such a file",
                                               Printable(file.path()), file.bytes(), max_bytes));
  }
  std::string text(static_cast<size_t>(file.bytes()), '\0');
  MORAINE_RETURN_IF_ERROR(file.ReadAt(0, std::as_writable_bytes(std::span(text))));
  return text;
}

Result<std::string> ReadText(const std::string& path, int64_t max_bytes) {
  MORAINE_ASSIGN_OR_RETURN(const File file, File::Open(path));
  return ReadText(file, max_bytes);
}

}  // namespace moraine
