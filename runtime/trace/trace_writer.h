// TraceWriter: rows into a buffer on the step's thread, whole blocks to the file on a thread of its own.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/trace/trace.h"

namespace moraine {

/// Where blocks go. One thread at a time.
class TraceSink {
 public:
  virtual ~TraceSink() = default;
  /// All of `bytes`, or an error after which what was written of them may be anything.
  virtual Status Write(std::span<const std::byte> bytes) = 0;
  /// Keeps the first `bytes` of what was written.
  virtual Status Cut(int64_t bytes) = 0;
};

struct TraceWriterOptions {
  size_t block_bytes = 64 * 1024;          // at least a row, at most 1 MiB
  size_t waiting_blocks = 64;              // that the drive may be behind
  std::chrono::milliseconds patience{50};  // a step waits so long, once, when it is further behind
};

/// A trace never fails a run: when the file can take no more (full, unreadable, too slow) it stops, what was
/// written stays a whole trace, and Notice says so. Add and Close come from one thread.
class TraceWriter {
 public:
  /// Creates or replaces the file and writes the header. kIo names the path; kInternal: see CheckTraceHeader.
  static Result<std::unique_ptr<TraceWriter>> Create(const std::string& path, const TraceHeader& header,
                                                     const TraceWriterOptions& options = {});
  /// The same over a sink of the caller's; `name` is what notices call it.
  static Result<std::unique_ptr<TraceWriter>> Create(std::unique_ptr<TraceSink> sink, const std::string& name,
                                                     const TraceHeader& header,
                                                     const TraceWriterOptions& options = {});
  /// Closes.
  ~TraceWriter();
  TraceWriter(const TraceWriter&) = delete;
  TraceWriter& operator=(const TraceWriter&) = delete;

  /// One row. Costs a copy; the file is written elsewhere. Does nothing once the trace has stopped.
  void Add(const TraceRow& row);
  /// Writes what is left and waits for it.
  void Close();

  /// Why the trace has stopped, in one line; empty while all is well. Any thread.
  std::string Notice() const;
  /// Rows in blocks that were written whole. Any thread.
  int64_t rows_written() const;

 private:
  struct Block {
    std::vector<std::byte> bytes;  // with its header
    uint32_t rows = 0;
  };

  TraceWriter(std::unique_ptr<TraceSink> sink, std::string name, const TraceHeader& header,
              const TraceWriterOptions& options);
  void HandOver();
  void Run();
  void Stop(const std::string& why);

  const TraceHeader header_;
  const TraceWriterOptions options_;
  const std::string name_;
  std::unique_ptr<TraceSink> sink_;
  Block filling_;  // of the step's thread

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Block> waiting_;
  std::vector<std::vector<std::byte>> spare_;  // buffers to fill again
  std::string notice_;
  int64_t rows_written_ = 0;
  int64_t bytes_written_ = 0;  // of the header and whole blocks
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace moraine
