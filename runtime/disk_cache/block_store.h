// BlockStore: a folder of blocks that are found again by their digest, whole or not at all.
//
// A block is a file of 64 bytes and its content, named by its digest's 64 hexadecimal digits and ".kv":
//
//   offset  bytes
//        0      8  "MORKV\0\0" and the version, 1
//        8     32  the digest
//       40      8  bytes of content, little-endian
//       48      4  CRC-32C of the content
//       52      4  CRC-32C of the 52 bytes before
//       56      8  zero
//
// It is written under another name and renamed, so that a process may be killed and several may share the
// folder at any time; what a crash of the machine left torn does not pass its checksums and is removed.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <span>
#include <string>

#include "runtime/core/file.h"
#include "runtime/core/handle.h"
#include "runtime/core/result.h"
#include "runtime/core/sha256.h"

namespace moraine {

enum class BlockRead : uint8_t {
  kFound,
  kMissing,
  kBroken,  // was there, did not pass, and has been removed
};

/// Has, Read and bytes may be called from any thread; Write and Touch from one at a time.
class BlockStore {
 public:
  static constexpr int64_t kHeaderBytes = 64;
  /// Files of a folder, whatever their size: the oldest go first beyond.
  static constexpr int64_t kMostFiles = 65536;

  /// Opens `folder`, made with mode 0700 if missing (the one it lies in exists); removes what killed
  /// processes left half written. `cap`: bytes of all files together. kUsage, naming the folder and the
  /// reason: it is no folder or a link, belongs to somebody else, or others may enter it. kIo.
  static Result<std::unique_ptr<BlockStore>> Open(const std::string& folder, int64_t cap);

  bool Has(const Digest& digest) const;
  /// Fills `out`, whose size is the content's.
  BlockRead Read(const Digest& digest, std::span<std::byte> out) const;
  /// Blocks until the drive has it. Removes what was used longest ago where the cap wants it. kIo names the
  /// folder and what the system refused; nothing of the block is left then.
  Status Write(const Digest& digest, std::span<const std::byte> content);
  /// It was used now.
  void Touch(const Digest& digest);

  /// Any thread; heeded from the next Write on.
  void SetCap(int64_t bytes) { cap_ = bytes; }
  int64_t cap() const { return cap_; }
  /// Of all files, as of the last look at the folder and with what was written since.
  int64_t bytes() const { return bytes_; }
  /// Blocks removed for the cap, by this process.
  int64_t removed() const { return removed_; }
  const std::string& folder() const { return folder_; }

 private:
  BlockStore(std::string folder, Handle<FdTraits> fd, int64_t cap);
  void Look(int64_t room_for);
  Status WriteTo(int fd, const Digest& digest, std::span<const std::byte> content) const;

  const std::string folder_;
  const Handle<FdTraits> fd_;  // of the folder
  std::atomic<int64_t> cap_;
  std::atomic<int64_t> bytes_{0};
  std::atomic<int64_t> removed_{0};
  int64_t files_ = 0;
  int64_t looked_ = 0;      // Unix seconds
  std::mt19937_64 random_;  // names nobody else chooses at the same time
};

}  // namespace moraine
