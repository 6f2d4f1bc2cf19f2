// Reading random experts through a Streamer, in the two ways an engine does.
#pragma once

#include <atomic>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "cpu/topology.h"
#include "storage/streamer.h"
#include "tools/bench/expert_files.h"

namespace moraine::tools {

struct StreamReading {
  double bytes_s = 0;   // read
  double core = 0;      // CPU of the streamer's threads, as a part of one core
  double process = 0;   // the same of the whole process
  double layers_s = 0;  // Layers only
  double layer_ms = 0;  // Layers only: median
};

/// What a contender runs before it is measured, so that the drive's queue is full.
inline constexpr double kRampSeconds = 0.15;

/// Slots for experts of one size, and the experts in the order they are asked for.
class StreamRun {
 public:
  /// `slots` of them. kInternal: no memory.
  static Result<StreamRun> Make(const ExpertFiles& files, int64_t tensor_bytes, int slots);

  /// All the memory experts are read to.
  std::span<std::byte> memory() const { return {memory_.data(), static_cast<size_t>(memory_.bytes())}; }

  /// Every slot always has an expert under way: the drive never waits. kIo: a read's.
  Result<StreamReading> Steady(Streamer& streamer, double seconds);
  /// `misses` experts at once, all awaited, then the next: a step without look-ahead.
  Result<StreamReading> Layers(Streamer& streamer, int misses, double seconds);

 private:
  StreamRun() = default;
  Ticket Ask(Streamer& streamer, int slot);

  int64_t tensor_bytes_ = 0;
  int slots_ = 0;
  int64_t slot_bytes_ = 0;
  std::vector<StoredExpert> experts_;
  size_t next_ = 0;
  NodeMemory memory_;
};

/// Threads that read memory as kernels do, from now until the end of its life.
class ComputeLoad {
 public:
  /// Returns once all of them read.
  explicit ComputeLoad(int threads);
  ~ComputeLoad();
  ComputeLoad(const ComputeLoad&) = delete;
  ComputeLoad& operator=(const ComputeLoad&) = delete;
  /// Bytes read so far by all.
  int64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }

 private:
  void Loop();
  std::atomic<int64_t> bytes_{0};
  std::atomic<int> reading_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

}  // namespace moraine::tools
