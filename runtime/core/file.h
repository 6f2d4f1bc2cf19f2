// File: one regular file, opened read-only, that remembers what it was when opened.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "runtime/core/handle.h"
#include "runtime/core/result.h"

namespace moraine {

struct FdTraits {
  using Value = int;
  static Value Empty() { return -1; }
  static void Close(Value fd) noexcept;
};

/// What tells one state of a file from another. A rewrite, a truncation or a replacement changes it.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t bytes = 0;
  int64_t mtime_ns = 0;
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

/// Move-only. const members may be called from any thread at the same time; there is no file position.
class File {
 public:
  /// Opens `path`, following symlinks, if it is a regular file; never blocks on a FIFO and never creates.
  /// kModel names what else it is (missing, directory, FIFO, socket, device, no permission); kIo when the
  /// system refuses (descriptors, memory).
  static Result<File> Open(const std::string& path);

  /// Fills all of `out` from byte `offset`, going on after short reads and signals. Blocks. kIo names the
  /// file, the offset, the bytes wanted and got: a read error, or the file's end came first.
  Status ReadAt(int64_t offset, std::span<std::byte> out) const;

  /// These bytes will not be read again: the page cache need not keep them. A wish; any failure is ignored.
  void Forget(int64_t offset, int64_t bytes) const;

  /// kIo when the open file, or what now stands at its path, is no longer the file that was opened.
  Status CheckUnchanged() const;

  const std::string& path() const { return path_; }
  int64_t bytes() const { return identity_.bytes; }
  const FileIdentity& identity() const { return identity_; }
  /// Borrowed; lives as long as this.
  int fd() const { return fd_.get(); }

 private:
  File() = default;
  Handle<FdTraits> fd_;
  std::string path_;
  FileIdentity identity_;
};

/// The whole text of a small file. kModel when it is over `max_bytes`; otherwise as Open and ReadAt.
Result<std::string> ReadText(const File& file, int64_t max_bytes);

/// The same of the file at `path`.
Result<std::string> ReadText(const std::string& path, int64_t max_bytes);

}  // namespace moraine
