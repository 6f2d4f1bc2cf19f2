// UringBackend: reads through io_uring, from one thread, which sleeps in the kernel until something has come.
#pragma once

#include <memory>
#include <vector>

#include "runtime/core/file.h"
#include "runtime/core/handle.h"
#include "runtime/core/result.h"
#include "storage/stream/backend.h"

struct io_uring;

namespace moraine {

class UringBackend final : public StreamBackend {
 public:
  struct Options {
    int reads = 0;         // under way at most
    std::vector<int> fds;  // by ChunkRead::file; registered, so that a read need not look them up
    /// Registered where the limit on locked memory allows; it stays the caller's and outlives this.
    std::vector<std::span<std::byte>> memory;
  };

  /// kHardware: the kernel or a container refuses io_uring, or it is older than 5.11; the message says which.
  /// kIo: no descriptor left.
  static Result<std::unique_ptr<UringBackend>> Open(const Options& options);
  ~UringBackend() override;
  UringBackend(const UringBackend&) = delete;
  UringBackend& operator=(const UringBackend&) = delete;

  void Start() override;
  void Submit(std::span<const ChunkRead> reads) override;
  size_t Reap(std::span<ChunkResult> out, std::chrono::nanoseconds timeout) override;
  void Wake() override;
  std::string Describe() const override;

  /// Why the memory is not registered; empty when it is, or there is none.
  const std::string& notice() const { return notice_; }

 private:
  // A registered stretch of memory.
  struct Buffer {
    std::byte* begin;
    std::byte* end;
  };
  struct CloseRing {
    void operator()(io_uring* ring) const noexcept;
  };

  UringBackend() = default;
  void RegisterFiles(const std::vector<int>& fds);
  void RegisterMemory(const std::vector<std::span<std::byte>>& memory);
  int BufferOf(const ChunkRead& read) const;
  void WatchForWake();

  std::unique_ptr<io_uring, CloseRing> ring_;
  Handle<FdTraits> wake_;        // an eventfd the ring polls
  std::vector<int> fds_;         // registered, by file; empty when none are
  std::vector<Buffer> buffers_;  // registered, by address; a buffer's place is its index in the ring
  std::string notice_;
};

}  // namespace moraine
