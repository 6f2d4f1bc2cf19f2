// Files of known bytes, and memory to read them into.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/core/file.h"
#include "storage/streamer.h"
#include "tests/support/temp_folder.h"

namespace moraine::test {

/// The byte at `offset` of file `file`.
std::byte Pattern(int32_t file, int64_t offset);

/// Memory for one range of up to `bytes` at any offset, with a guard on both sides of the enclosing blocks.
class SlotMemory {
 public:
  explicit SlotMemory(int64_t bytes);
  /// The range [offset, offset + bytes) of `file`, into this memory.
  StreamRange At(int32_t file, int64_t offset, int64_t bytes);
  /// Nothing outside the blocks that At promised has been written.
  bool EdgesIntact() const;

 private:
  struct Free {
    void operator()(std::byte* at) const;
  };
  int64_t capacity_;  // whole blocks, guards not counted
  int64_t used_ = 0;  // of them At handed out
  std::unique_ptr<std::byte, Free> memory_;
};

/// A folder with files of the given sizes, filled with Pattern, and the files opened.
class StreamCase {
 public:
  explicit StreamCase(const std::vector<int64_t>& sizes);
  const std::vector<File>& files() const { return files_; }
  std::string path(int32_t file) const;
  /// A streamer over the files; a failed Open fails the test and aborts.
  std::unique_ptr<Streamer> Open(const StreamerOptions& options) const;
  std::unique_ptr<Streamer> Open(const StreamerOptions& options,
                                 std::unique_ptr<StreamBackend> backend) const;
  /// Whether the range's memory holds the file's bytes.
  bool Holds(const StreamRange& range) const;

 private:
  TempFolder folder_;
  std::vector<File> files_;
};

}  // namespace moraine::test
