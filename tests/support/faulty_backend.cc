#include "tests/support/faulty_backend.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace moraine::test {

using Clock = std::chrono::steady_clock;

FaultyBackend::FaultyBackend(Script script, bool newest_first)
    : script_(std::move(script)), newest_first_(newest_first) {}

void FaultyBackend::Submit(std::span<const ChunkRead> reads) {
  const std::lock_guard lock(mutex_);
  for (const ChunkRead& read : reads) {
    const Answer answer = script_(read);
    pending_.push_back({read, answer, Clock::now() + answer.late});
    seen_.push_back(read);
  }
  changed_.notify_all();
}

size_t FaultyBackend::Reap(std::span<ChunkResult> out, std::chrono::nanoseconds timeout) {
  std::unique_lock lock(mutex_);
  const Clock::time_point end = Clock::now() + timeout;
  size_t count = 0;
  while (true) {
    for (size_t k = 0; k < pending_.size() && count < out.size();) {
      const size_t at = newest_first_ ? pending_.size() - 1 - k : k;
      const Pending& pending = pending_[at];
      if ((pending.answer.hang && !let_go_) || pending.due > Clock::now()) {
        ++k;
        continue;
      }
      const ChunkRead& read = pending.read;
      int64_t result = -int64_t{pending.answer.error};
      if (pending.answer.error == 0) {
        // A direct read takes no odd length, so all is read and what is too much spoilt.
        const ssize_t got = ::pread(read.fd, read.to, static_cast<size_t>(read.bytes), read.offset);
        result = got < 0 ? -int64_t{errno} : std::min<int64_t>(got, pending.answer.most);
      }
      const int64_t good = std::max<int64_t>(result, 0);
      std::fill(read.to + good, read.to + read.bytes, std::byte{0xEE});
      out[count++] = {.id = read.id, .result = result};
      pending_.erase(pending_.begin() + static_cast<int64_t>(at));
    }
    if (count > 0 || woken_ || Clock::now() >= end) break;
    Clock::time_point next = end;
    for (const Pending& pending : pending_)
      if (!pending.answer.hang || let_go_) next = std::min(next, pending.due);
    changed_.wait_until(lock, next);
  }
  woken_ = false;
  return count;
}

void FaultyBackend::Wake() {
  const std::lock_guard lock(mutex_);
  woken_ = true;
  changed_.notify_all();
}

void FaultyBackend::LetGo() {
  const std::lock_guard lock(mutex_);
  let_go_ = true;
  changed_.notify_all();
}

std::vector<ChunkRead> FaultyBackend::Seen() const {
  const std::lock_guard lock(mutex_);
  return seen_;
}

void FaultyBackend::AwaitSeen(size_t count) const {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return seen_.size() >= count; });
}

}  // namespace moraine::test
