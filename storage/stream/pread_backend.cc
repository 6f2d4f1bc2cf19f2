#include "storage/stream/pread_backend.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "storage/stream/io_thread.h"

namespace moraine {

Result<std::unique_ptr<PreadBackend>> PreadBackend::Open(int threads) {
  std::unique_ptr<PreadBackend> backend(new PreadBackend);
  backend->reads_.reserve(static_cast<size_t>(threads));
  backend->results_.reserve(static_cast<size_t>(threads));
  backend->threads_.reserve(static_cast<size_t>(threads));
  try {
    for (int i = 0; i < threads; ++i) backend->threads_.emplace_back([b = backend.get()] { b->Loop(); });
  } catch (const std::system_error& error) {
    return Fail(ErrorKind::kIo, fmt::format("the system gave {} of {} threads to read with: {}",
                                            backend->threads_.size(), threads, error.code().message()));
  }
  return backend;
}

PreadBackend::~PreadBackend() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  asked_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void PreadBackend::Submit(std::span<const ChunkRead> reads) {
  {
    const std::lock_guard lock(mutex_);
    if (next_ == reads_.size()) {
      reads_.clear();
      next_ = 0;
    } else if (reads_.size() + reads.size() > reads_.capacity()) {
      reads_.erase(reads_.begin(), reads_.begin() + static_cast<int64_t>(next_));
      next_ = 0;
    }
    reads_.insert(reads_.end(), reads.begin(), reads.end());
  }
  for (size_t i = 0; i < reads.size(); ++i) asked_.notify_one();
}

size_t PreadBackend::Reap(std::span<ChunkResult> out, std::chrono::nanoseconds timeout) {
  std::unique_lock lock(mutex_);
  told_.wait_for(lock, timeout, [this] { return woken_ || !results_.empty(); });
  woken_ = false;
  const size_t count = std::min(out.size(), results_.size());
  std::copy_n(results_.begin(), count, out.begin());
  results_.erase(results_.begin(), results_.begin() + static_cast<int64_t>(count));
  return count;
}

void PreadBackend::Wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  told_.notify_one();
}

std::string PreadBackend::Describe() const { return fmt::format("pread on {} threads", threads_.size()); }

double PreadBackend::CpuSeconds() {
  double sum = 0;
  for (std::thread& thread : threads_) sum += ThreadCpuSeconds(thread);
  return sum;
}

void PreadBackend::Loop() {
  AskForShortSlices();
  std::unique_lock lock(mutex_);
  while (true) {
    asked_.wait(lock, [this] { return stop_ || next_ < reads_.size(); });
    if (next_ == reads_.size()) return;
    const ChunkRead read = reads_[next_++];
    lock.unlock();
    const ssize_t got = ::pread(read.fd, read.to, static_cast<size_t>(read.bytes), read.offset);
    const ChunkResult result{.id = read.id, .result = got < 0 ? -int64_t{errno} : int64_t{got}};
    lock.lock();
    results_.push_back(result);
    told_.notify_one();
  }
}

}  // namespace moraine
