#include "storage/convert/output_folder.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "runtime/core/printable.h"

namespace moraine {
namespace {

namespace fs = std::filesystem;

std::string Reason(int error) { return std::generic_category().message(error); }

tl::unexpected<Error> Failed(const std::string& path, const std::string& what, int error) {
  return Fail(ErrorKind::kIo, fmt::format("{}: {}: {}", Printable(path), what, Reason(error)));
}

std::string Gigabytes(int64_t bytes) {
  return bytes < 1'000'000'000 ? fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6)
                               : fmt::format("{:.1f} GB", static_cast<double>(bytes) / 1e9);
}

Status CheckSpace(const std::string& path, int64_t bytes) {
  struct statvfs info {};
  if (::statvfs(path.c_str(), &info) != 0) return Failed(path, "statvfs", errno);
  const auto free = static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
  if (free >= bytes) return {};
  return Fail(ErrorKind::kDoesNotFit,
              fmt::format("{}: {} are to be written, {} are free: {} short", Printable(path),
                          Gigabytes(bytes), Gigabytes(free), Gigabytes(bytes - free)));
}

}  // namespace

Status OutputFile::WriteAt(int64_t offset, std::span<const std::byte> bytes) const {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n =
        ::pwrite(fd_.get(), bytes.data() + done, bytes.size() - done, offset + static_cast<int64_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      return Failed(path_,
                    fmt::format("writing {} bytes at offset {}: {} written", bytes.size(), offset, done),
                    n < 0 ? errno : EIO);
    }
    done += static_cast<size_t>(n);
  }
  return {};
}

Status OutputFile::Sync() const {
  if (::fdatasync(fd_.get()) != 0) return Failed(path_, "fdatasync", errno);
  return {};
}

Result<std::unique_ptr<OutputFolder>> OutputFolder::Create(const std::string& path, int64_t bytes) {
  std::unique_ptr<OutputFolder> folder(new OutputFolder());
  folder->path_ = path;
  const std::string shown = Printable(path);
  if (path.empty()) return Fail(ErrorKind::kUsage, "the folder to write has no name");
  std::error_code error;
  std::vector<fs::path> missing;
  for (fs::path at = fs::absolute(path, error).lexically_normal(); !at.empty() && !fs::exists(at, error);
       at = at.parent_path())
    missing.push_back(at);
  for (auto at = missing.rbegin(); at != missing.rend(); ++at) {
    if (::mkdir(at->c_str(), 0777) == 0) {
      folder->made_.push_back(*at);
    } else if (errno != EEXIST) {
      return Fail(ErrorKind::kUsage,
                  fmt::format("{}: cannot be made: {}", Printable(at->string()), Reason(errno)));
    }
  }
  const bool empty = fs::is_empty(path, error);
  if (error || !fs::is_directory(path, error)) {
    return Fail(ErrorKind::kUsage, fmt::format("{}: is there and is no folder that can be read", shown));
  }
  if (!empty) {
    return Fail(
        ErrorKind::kUsage,
        fmt::format("{}: is not empty; expected a new or an empty folder (nothing is ever overwritten)",
                    shown));
  }
  MORAINE_RETURN_IF_ERROR(CheckSpace(path, bytes));
  return folder;
}

OutputFolder::~OutputFolder() {
  if (finished_) return;
  for (const std::string& name : files_) ::unlink((path_ + '/' + name).c_str());
  // The innermost first; one that holds something else by now stays.
  for (auto made = made_.rbegin(); made != made_.rend(); ++made) ::rmdir(made->c_str());
}

Result<OutputFile> OutputFolder::CreateFile(const std::string& name, int64_t bytes) {
  OutputFile file;
  file.path_ = path_ + '/' + name;
  const int fd = ::open(file.path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) return Failed(file.path_, "cannot be made", errno);
  file.fd_ = Handle<FdTraits>(fd);
  files_.push_back(name);
  if (::ftruncate(fd, bytes) != 0)
    return Failed(file.path_, fmt::format("cannot be made {} bytes long", bytes), errno);
  return file;
}

Status OutputFolder::WriteText(const std::string& name, const std::string& text) {
  MORAINE_ASSIGN_OR_RETURN(const OutputFile file, CreateFile(name, 0));
  MORAINE_RETURN_IF_ERROR(file.WriteAt(0, std::as_bytes(std::span(text))));
  return file.Sync();
}

Status OutputFolder::CopyFile(const std::string& name, const File& from) {
  MORAINE_ASSIGN_OR_RETURN(const OutputFile file, CreateFile(name, 0));
  std::vector<std::byte> buffer(static_cast<size_t>(std::min<int64_t>(from.bytes(), 1 << 20)));
  for (int64_t done = 0; done < from.bytes(); done += static_cast<int64_t>(buffer.size())) {
    buffer.resize(static_cast<size_t>(std::min<int64_t>(from.bytes() - done, 1 << 20)));
    MORAINE_RETURN_IF_ERROR(from.ReadAt(done, buffer));
    MORAINE_RETURN_IF_ERROR(file.WriteAt(done, buffer));
  }
  return file.Sync();
}

Status OutputFolder::Finish(const std::string& config_text) {
  constexpr char kUnfinished[] = "config.json.unfinished";
  MORAINE_RETURN_IF_ERROR(WriteText(kUnfinished, config_text));
  const std::string config = path_ + "/config.json";
  if (::rename((path_ + '/' + kUnfinished).c_str(), config.c_str()) != 0)
    return Failed(config, "rename", errno);
  finished_ = true;
  const Handle<FdTraits> fd(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0) return Failed(path_, "fsync", errno);
  return {};
}

Status InParallel(int64_t count, const std::function<Status(int64_t)>& work) {
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::optional<Error> error;
  const auto worker = [&] {
    for (int64_t i = next.fetch_add(1); i < count && !failed; i = next.fetch_add(1)) {
      const Status status = work(i);
      if (status.has_value()) continue;
      const std::lock_guard lock(mutex);
      if (!failed.exchange(true)) error = status.error();
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < std::thread::hardware_concurrency(); ++i) threads.emplace_back(worker);
  worker();
  for (std::thread& thread : threads) thread.join();
  if (error) return tl::unexpected(*error);
  return {};
}

}  // namespace moraine
