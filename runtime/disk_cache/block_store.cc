#include "runtime/disk_cache/block_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/core/crc32c.h"
#include "runtime/core/printable.h"

namespace moraine {
namespace {

using Header = std::array<std::byte, BlockStore::kHeaderBytes>;
constexpr std::string_view kMagic("MORKV\0\0\1", 8);
constexpr std::string_view kEnding = ".kv";
constexpr std::string_view kUnfinished = "unfinished-";
constexpr size_t kDigits = 64;
// An unfinished file this old that nobody holds locked was left by a process that is gone.
constexpr int64_t kAbandonedSeconds = 60;
// What other processes write is seen when the folder is looked at again.
constexpr int64_t kLookSeconds = 30;

template <typename T>
void Put(Header* header, size_t at, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) (*header)[at + i] = static_cast<std::byte>(value >> (8 * i));
}

Header HeaderOf(const Digest& digest, std::span<const std::byte> content) {
  Header header{};
  std::memcpy(header.data(), kMagic.data(), kMagic.size());
  std::ranges::copy(digest, header.begin() + 8);
  Put(&header, 40, static_cast<uint64_t>(content.size()));
  Put(&header, 48, Crc32c(content));
  Put(&header, 52, Crc32c(std::span(header).first(52)));
  return header;
}

std::string NameOf(const Digest& digest) { return Hex(digest).append(kEnding); }

bool IsBlock(std::string_view name) {
  return name.size() == kDigits + kEnding.size() && name.ends_with(kEnding) &&
         name.find_first_not_of("0123456789abcdef") == kDigits;
}

bool ReadAll(int fd, std::span<std::byte> out, int64_t offset) {
  while (!out.empty()) {
    const ssize_t got = ::pread(fd, out.data(), out.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    out = out.subspan(static_cast<size_t>(got));
    offset += got;
  }
  return true;
}

bool WriteAll(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    bytes = bytes.subspan(static_cast<size_t>(put));
  }
  return true;
}

// Every file of the folder by name; "." and ".." left out.
template <typename Call>
void ForEachFile(int folder, const Call& call) {
  const int again = ::openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (again < 0) return;
  DIR* const listing = ::fdopendir(again);
  if (listing == nullptr) {
    ::close(again);
    return;
  }
  while (const dirent* entry = ::readdir(listing)) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == "..") continue;
    struct stat found = {};
    if (::fstatat(folder, entry->d_name, &found, AT_SYMLINK_NOFOLLOW) == 0) call(entry->d_name, found);
  }
  ::closedir(listing);
}

// Whoever writes it holds it locked.
void RemoveIfAbandoned(int folder, const char* name, const struct stat& found) {
  if (std::time(nullptr) - found.st_mtim.tv_sec < kAbandonedSeconds) return;
  const Handle<FdTraits> file(::openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (file && ::flock(file.get(), LOCK_EX | LOCK_NB) == 0) ::unlinkat(folder, name, 0);
}

tl::unexpected<Error> Refuse(const std::string& folder, const std::string& reason) {
  return Fail(ErrorKind::kUsage,
              fmt::format("{}: not used for cached prompts: {}", Printable(folder), reason));
}

}  // namespace

BlockStore::BlockStore(std::string folder, Handle<FdTraits> fd, int64_t cap)
    : folder_(std::move(folder)),
      fd_(std::move(fd)),
      cap_(cap),
      random_((uint64_t{std::random_device()()} << 32) ^ std::random_device()()) {}

Result<std::unique_ptr<BlockStore>> BlockStore::Open(const std::string& folder, int64_t cap) {
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return Fail(ErrorKind::kIo,
                fmt::format("{}: cannot be made: {}", Printable(folder), std::strerror(errno)));
  }
  Handle<FdTraits> fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) {
    if (errno == ELOOP || errno == ENOTDIR) return Refuse(folder, "it is a link or no folder; remove it");
    return Refuse(folder, fmt::format("it cannot be opened: {}", std::strerror(errno)));
  }
  struct stat found = {};
  if (::fstat(fd.get(), &found) != 0)
    return Fail(ErrorKind::kIo, fmt::format("{}: {}", Printable(folder), std::strerror(errno)));
  if (found.st_uid != ::geteuid()) {
    return Refuse(folder, fmt::format("it belongs to user {}, this process to {}; remove it or set "
                                      "XDG_CACHE_HOME to a folder of yours",
                                      found.st_uid, ::geteuid()));
  }
  if ((found.st_mode & 077) != 0) {
    return Refuse(folder, fmt::format("others may enter it (mode {:04o}); chmod 700 it",
                                      static_cast<unsigned>(found.st_mode) & 07777));
  }
  std::unique_ptr<BlockStore> store(new BlockStore(folder, std::move(fd), cap));
  store->Look(0);
  return store;
}

bool BlockStore::Has(const Digest& digest) const {
  struct stat found = {};
  return ::fstatat(fd_.get(), NameOf(digest).c_str(), &found, AT_SYMLINK_NOFOLLOW) == 0;
}

BlockRead BlockStore::Read(const Digest& digest, std::span<std::byte> out) const {
  const std::string name = NameOf(digest);
  const Handle<FdTraits> file(
      ::openat(fd_.get(), name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!file && errno != ELOOP) return BlockRead::kMissing;
  Header header;
  struct stat found = {};
  const bool whole = file && ::fstat(file.get(), &found) == 0 && S_ISREG(found.st_mode) &&
                     found.st_size == kHeaderBytes + static_cast<int64_t>(out.size()) &&
                     ReadAll(file.get(), header, 0) && ReadAll(file.get(), out, kHeaderBytes) &&
                     header == HeaderOf(digest, out);
  if (whole) return BlockRead::kFound;
  ::unlinkat(fd_.get(), name.c_str(), 0);
  return BlockRead::kBroken;
}

void BlockStore::Touch(const Digest& digest) {
  const std::array<timespec, 2> now = {
      {{.tv_sec = 0, .tv_nsec = UTIME_NOW}, {.tv_sec = 0, .tv_nsec = UTIME_NOW}}};
  ::utimensat(fd_.get(), NameOf(digest).c_str(), now.data(), AT_SYMLINK_NOFOLLOW);
}

// Counts what is there, removes what nobody will finish, and of the blocks those used longest ago until there
// is room for so many bytes more.
void BlockStore::Look(int64_t room_for) {
  struct Block {
    std::string name;
    int64_t bytes;
    timespec used;
  };
  std::vector<Block> blocks;
  int64_t bytes = 0;
  ForEachFile(fd_.get(), [&](const char* name, const struct stat& found) {
    if (std::string_view(name).starts_with(kUnfinished)) return RemoveIfAbandoned(fd_.get(), name, found);
    if (!IsBlock(name)) return;
    blocks.push_back({name, found.st_size, found.st_mtim});
    bytes += found.st_size;
  });
  auto files = static_cast<int64_t>(blocks.size());
  const int64_t cap = cap_;
  // Another process that is at it makes the room.
  if ((bytes + room_for > cap || files >= kMostFiles) && ::flock(fd_.get(), LOCK_EX | LOCK_NB) == 0) {
    std::ranges::sort(blocks, [](const Block& a, const Block& b) {
      return std::pair(a.used.tv_sec, a.used.tv_nsec) < std::pair(b.used.tv_sec, b.used.tv_nsec);
    });
    // A little more than is needed, so that not every block that comes has the folder read.
    const int64_t most = std::max<int64_t>(0, cap - cap / 16 - room_for);
    for (const Block& block : blocks) {
      if (bytes <= most && files < kMostFiles - kMostFiles / 16) break;
      if (::unlinkat(fd_.get(), block.name.c_str(), 0) == 0) ++removed_;
      bytes -= block.bytes;
      --files;
    }
    ::flock(fd_.get(), LOCK_UN);
  }
  bytes_ = bytes;
  files_ = files;
  looked_ = std::time(nullptr);
}

Status BlockStore::WriteTo(int fd, const Digest& digest, std::span<const std::byte> content) const {
  const bool written = ::fchmod(fd, 0600) == 0 && WriteAll(fd, HeaderOf(digest, content)) &&
                       WriteAll(fd, content) && ::fdatasync(fd) == 0;
  if (written) return {};
  return Fail(ErrorKind::kIo, fmt::format("{}: a block of {} bytes cannot be written: {}", Printable(folder_),
                                          content.size(), std::strerror(errno)));
}

Status BlockStore::Write(const Digest& digest, std::span<const std::byte> content) {
  const int64_t bytes = kHeaderBytes + static_cast<int64_t>(content.size());
  if (bytes > cap_) {
    return Fail(ErrorKind::kIo, fmt::format("{}: a block takes {} bytes and all may take {}",
                                            Printable(folder_), bytes, cap_.load()));
  }
  if (bytes_ + bytes > cap_ || files_ >= kMostFiles || std::time(nullptr) - looked_ >= kLookSeconds)
    Look(bytes);
  const std::string beside = fmt::format("{}{:016x}", kUnfinished, random_());
  const Handle<FdTraits> file(
      ::openat(fd_.get(), beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file) {
    return Fail(ErrorKind::kIo,
                fmt::format("{}: no file can be made in it: {}", Printable(folder_), std::strerror(errno)));
  }
  ::flock(file.get(), LOCK_EX | LOCK_NB);
  Status written = WriteTo(file.get(), digest, content);
  if (written.has_value() && ::renameat(fd_.get(), beside.c_str(), fd_.get(), NameOf(digest).c_str()) != 0) {
    written = Fail(ErrorKind::kIo, fmt::format("{}: a block cannot be renamed: {}", Printable(folder_),
                                               std::strerror(errno)));
  }
  if (!written.has_value()) {
    ::unlinkat(fd_.get(), beside.c_str(), 0);
    return written;
  }
  // It is read again after a restart, if at all: memory is for weights.
  ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
  bytes_ += bytes;
  ++files_;
  return {};
}

}  // namespace moraine
