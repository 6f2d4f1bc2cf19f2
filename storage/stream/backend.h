// StreamBackend: the few calls the streamer needs of whatever moves the bytes: a ring, threads, or a test's
// drive that fails.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace moraine {

/// One read of [offset, offset + bytes) of `fd` to `to`, all three in whole blocks. Past the file's end it
/// comes back short.
struct ChunkRead {
  uint32_t id = 0;   // comes back with the result; below the number of chunks the backend was made for
  int32_t file = 0;  // index in the streamer's list
  int fd = -1;
  int64_t offset = 0;
  int64_t bytes = 0;
  std::byte* to = nullptr;
};

/// `result` is what pread would have said: the bytes read, or -errno.
struct ChunkResult {
  uint32_t id = 0;
  int64_t result = 0;
};

/// Submit and Reap are called from one thread, Wake from any. A backend never retries and never judges a
/// result. Its destructor is called with nothing under way.
class StreamBackend {
 public:
  virtual ~StreamBackend() = default;
  /// Before the first Submit, on the thread that will call it.
  virtual void Start() {}
  /// Starts the reads. At most as many are under way as the backend was made for, each with its own id.
  virtual void Submit(std::span<const ChunkRead> reads) = 0;
  /// Fills `out` from its beginning and returns how many, once there is one, or Wake was called since the
  /// last time, or `timeout` has passed.
  virtual size_t Reap(std::span<ChunkResult> out, std::chrono::nanoseconds timeout) = 0;
  /// Makes the Reap under way, or the next one, return.
  virtual void Wake() = 0;
  /// Name and what it makes use of: "io_uring, files registered".
  virtual std::string Describe() const = 0;
  /// CPU time its own threads have used.
  virtual double CpuSeconds() { return 0; }
};

}  // namespace moraine
