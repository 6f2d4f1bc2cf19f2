#include "storage/stream/stream_files.h"

#include <fcntl.h>
#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "runtime/core/printable.h"

namespace moraine {
namespace {

std::string Reason(int error) { return std::generic_category().message(error); }

}  // namespace

Result<StreamFiles> StreamFiles::Open(std::span<const File> files, bool direct,
                                      std::chrono::nanoseconds check_every) {
  StreamFiles all;
  all.check_every_ = check_every;
  all.files_ = files;
  all.entries_.resize(files.size());
  std::vector<uint64_t> devices;
  for (size_t i = 0; i < files.size(); ++i) {
    const File& file = files[i];
    const auto device = std::find(devices.begin(), devices.end(), file.identity().device);
    all.device_of_.push_back(static_cast<int>(device - devices.begin()));
    if (device == devices.end()) devices.push_back(file.identity().device);
    if (!direct) continue;
    const int fd = ::open(file.path().c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_DIRECT);
    if (fd >= 0) {
      all.entries_[i].direct = Handle<FdTraits>(fd);
      all.entries_[i].use_direct = true;
    } else if (errno == EINVAL) {
      all.UseBuffered(static_cast<int32_t>(i), "its file system refuses O_DIRECT");
    } else {
      return Fail(ErrorKind::kIo,
                  fmt::format("{}: cannot be opened again for direct reads: {}{}", Printable(file.path()),
                              Reason(errno),
                              errno == EMFILE ? "; raise the limit on open files (ulimit -n): "
                                                "each weight file takes two"
                                              : ""));
    }
    // What stands at the path now may be another file: the check compares it with the one opened first.
    MORAINE_RETURN_IF_ERROR(file.CheckUnchanged());
  }
  return all;
}

int StreamFiles::fd(int32_t file) const {
  const Entry& at = entry(file);
  return at.use_direct ? at.direct.get() : files_[static_cast<size_t>(file)].fd();
}

Status StreamFiles::Check(int32_t file, Time now, bool at_once) {
  Entry& at = entries_[static_cast<size_t>(file)];
  if (at.changed) return tl::unexpected(at.change);
  if (!at_once && at.checked != Time() && now - at.checked < check_every_) return {};
  at.checked = now;
  Status status = files_[static_cast<size_t>(file)].CheckUnchanged();
  if (!status.has_value()) {
    at.changed = true;
    at.change = status.error();
  }
  return status;
}

void StreamFiles::UseBuffered(int32_t file, const std::string& why) {
  entries_[static_cast<size_t>(file)].use_direct = false;
  if (!notice_.empty()) return;
  notice_ = fmt::format(
      "{}: {}; it and others like it are read through the page cache, which costs memory "
      "and a copy",
      Printable(path(file)), why);
}

}  // namespace moraine
