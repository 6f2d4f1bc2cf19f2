// A drive that fails as told: short, late, out of order, with an error, or not at all.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "storage/stream/backend.h"

namespace moraine::test {

/// What the drive does with one read. The default: reads at once, all of it.
struct Answer {
  int error = 0;             // errno, nothing read
  int64_t most = INT64_MAX;  // bytes it gives at most
  std::chrono::milliseconds late{0};
  bool hang = false;  // gives nothing until LetGo
};

/// A StreamBackend that reads with pread on the caller's thread, but as `script` says. The script is called
/// for every read in the order they are started.
class FaultyBackend final : public StreamBackend {
 public:
  using Script = std::function<Answer(const ChunkRead& read)>;

  /// `newest_first`: of what is ready, the last started comes back first.
  explicit FaultyBackend(Script script, bool newest_first = false);

  void Submit(std::span<const ChunkRead> reads) override;
  size_t Reap(std::span<ChunkResult> out, std::chrono::nanoseconds timeout) override;
  void Wake() override;
  std::string Describe() const override { return "a test's drive"; }

  /// What hangs comes, and nothing hangs from now on.
  void LetGo();
  /// All reads so far, in the order they were started.
  std::vector<ChunkRead> Seen() const;
  /// Blocks until `count` reads have been started.
  void AwaitSeen(size_t count) const;

 private:
  struct Pending {
    ChunkRead read;
    Answer answer;
    std::chrono::steady_clock::time_point due;
  };
  const Script script_;
  const bool newest_first_;
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::vector<Pending> pending_;
  std::vector<ChunkRead> seen_;
  bool woken_ = false;
  bool let_go_ = false;
};

}  // namespace moraine::test
