// PreadBackend: one thread for each read under way, which calls pread.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/core/result.h"
#include "storage/stream/backend.h"

namespace moraine {

class PreadBackend final : public StreamBackend {
 public:
  /// kIo: the system gives no more threads.
  static Result<std::unique_ptr<PreadBackend>> Open(int threads);
  ~PreadBackend() override;
  PreadBackend(const PreadBackend&) = delete;
  PreadBackend& operator=(const PreadBackend&) = delete;

  void Submit(std::span<const ChunkRead> reads) override;
  size_t Reap(std::span<ChunkResult> out, std::chrono::nanoseconds timeout) override;
  void Wake() override;
  std::string Describe() const override;
  double CpuSeconds() override;

 private:
  PreadBackend() = default;
  void Loop();

  mutable std::mutex mutex_;
  std::condition_variable asked_;
  std::condition_variable told_;
  // Room for `threads` each, so that neither ever grows.
  std::vector<ChunkRead> reads_;  // not yet picked up; taken from the front
  size_t next_ = 0;
  std::vector<ChunkResult> results_;
  bool woken_ = false;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace moraine
