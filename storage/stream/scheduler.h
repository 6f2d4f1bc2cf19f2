// StreamScheduler: which chunk of which request is read next, and what has become of each request.
// Bookkeeping only: no thread, no clock, no I/O, no text. Its owner locks around every call.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "storage/streamer.h"

namespace moraine {

using StreamTime = std::chrono::steady_clock::time_point;

/// A chunk under way. `offset`, `bytes` and `to` are in whole blocks; the first `needed` bytes are wanted.
struct StreamChunk {
  uint32_t id = 0;
  int32_t file = 0;
  int64_t offset = 0;
  int64_t bytes = 0;
  int64_t needed = 0;
  std::byte* to = nullptr;
  int tries = 0;  // that came to nothing since its last progress
};

/// Why a request failed, and where.
struct StreamFault {
  enum class Kind : uint8_t { kError, kDropped, kStalled };
  Kind kind = Kind::kError;
  int32_t file = 0;
  int64_t offset = 0;
  int64_t bytes = 0;
  Error error;  // of kError
};

class StreamScheduler {
 public:
  struct Limits {
    int depth = 0;
    int background_depth = 0;
    int64_t chunk_bytes = 0;
    int max_requests = 0;
  };

  /// `lane_of_file[f]`: the queue of its device; lanes are numbered from 0.
  StreamScheduler(std::vector<int> lane_of_file, const Limits& limits);

  int lanes() const { return static_cast<int>(lanes_.size()); }
  /// Chunks that can be under way at once; their ids are below.
  int capacity() const { return static_cast<int>(chunks_.size()); }

  // The caller's side. A number that was released, or never given, is a bug.
  uint64_t Add(std::span<const StreamRange> ranges, ReadClass urgency, StreamTime now);
  void Raise(uint64_t number, ReadClass urgency);
  bool Drop(uint64_t number);
  bool Done(uint64_t number) const { return At(number).done; }
  bool Settled(uint64_t number) const { return At(number).done && At(number).under_way == 0; }
  /// Of a request that is done: null when all its bytes have come.
  const StreamFault* Fault(uint64_t number) const;
  void Release(uint64_t number);
  int room() const { return static_cast<int>(free_requests_.size()); }

  // The drive's side. A chunk given out by Take is under way until Finish or Fail.
  /// True when Take would give something, retries aside.
  bool Ready() const;
  /// Up to out.size() chunks that start now: retries that are due, then the most urgent of each lane. Retries
  /// of requests that have failed meanwhile end here.
  size_t Take(std::span<StreamChunk> out, StreamTime now);
  /// The first `bytes` have come; the chunk is what is left, and is given out again by Take.
  void Advance(uint32_t id, int64_t bytes, StreamTime now);
  /// Nothing has come; Take gives it out again from `due` on. `counts` as a try.
  void Retry(uint32_t id, StreamTime now, StreamTime due, bool counts);
  /// All that was needed, and `bytes` in all, have come.
  void Finish(uint32_t id, int64_t bytes, StreamTime now);
  /// It has failed for good, and its request with it.
  void Fail(uint32_t id, Error error, StreamTime now);
  const StreamChunk& chunk(uint32_t id) const { return chunks_[id].chunk; }
  /// When the next retry is due; StreamTime::max() without one.
  StreamTime NextRetry() const;
  int under_way() const { return under_way_; }
  /// True once after a request has ended.
  bool TakeEnded() { return std::exchange(ended_, false); }
  /// Fails every request that has not ended as dropped: nothing of it is started or tried again.
  void DropAll();

  /// Fails what the drive has kept waiting for `timeout`: a chunk under way so long, and all of a lane that
  /// has had work but no result for so long. Not at the first look that finds any, but at one `grace` or more
  /// later: a process that was stopped for a while finds everything late, and has yet to take in what came.
  /// Chunks stay under way until they come.
  void FailStalled(StreamTime now, std::chrono::nanoseconds timeout, std::chrono::nanoseconds grace);

  StreamerStats stats(StreamTime now) const;

 private:
  static constexpr int32_t kNone = -1;

  // One range not yet wholly cut into chunks, linked into the queue of its lane and class.
  struct Range {
    int32_t file = 0;
    int64_t next = 0;         // offset of the first block not yet started
    int64_t wanted_end = 0;   // offset behind the last byte asked for
    std::byte* to = nullptr;  // where `next` goes
    int32_t before = kNone;
    int32_t after = kNone;
    bool queued = false;
  };
  struct Queue {
    int32_t first = kNone;
    int32_t last = kNone;
  };
  struct Lane {
    std::array<Queue, 3> queues;  // by ReadClass
    int under_way = 0;
    int background = 0;   // of them not demand when they started
    StreamTime answered;  // last result, or when work came to an idle lane
  };
  struct Request {
    uint64_t number = 0;  // 0: free
    ReadClass urgency = ReadClass::kDemand;
    int ranges = 0;
    int queued = 0;     // ranges not wholly started
    int under_way = 0;  // chunks
    bool started = false;
    bool done = false;
    std::optional<StreamFault> fault;
  };
  struct Chunk {
    enum class State : uint8_t { kFree, kUnderWay, kWaiting };
    StreamChunk chunk;
    State state = State::kFree;
    bool background = false;
    int32_t request = 0;
    StreamTime started;
    StreamTime due;  // of kWaiting
  };

  int32_t IndexOf(uint64_t number) const;
  const Request& At(uint64_t number) const { return requests_[static_cast<size_t>(IndexOf(number))]; }
  Lane& LaneOf(int32_t file) { return lanes_[static_cast<size_t>(lane_of_file_[static_cast<size_t>(file)])]; }
  void Link(int32_t range, ReadClass urgency);
  void Unlink(int32_t range, ReadClass urgency);
  std::optional<ReadClass> NextClass(const Lane& lane) const;
  void Cut(Lane& lane, ReadClass urgency, StreamTime now, StreamChunk* out);
  void Start(Chunk& chunk, StreamTime now, StreamChunk* out);
  void End(Chunk& chunk, StreamTime now);
  void Answered(Chunk& chunk, StreamTime now);
  void Forget(int32_t request);
  void SetFault(int32_t request, StreamFault fault);
  template <typename Visit>
  void VisitLate(StreamTime now, std::chrono::nanoseconds timeout, Visit&& visit);
  void EndIfOver(Request& request);

  Limits limits_;
  std::vector<int> lane_of_file_;
  std::vector<Lane> lanes_;
  std::vector<Request> requests_;
  std::vector<int32_t> free_requests_;
  std::vector<Range> ranges_;  // kMaxStreamRanges of each request
  std::vector<Chunk> chunks_;
  std::vector<uint32_t> free_chunks_;
  uint64_t serial_ = 0;
  int under_way_ = 0;
  int waiting_ = 0;
  bool ended_ = false;
  std::optional<StreamTime> late_since_;  // when a look first found the drive late
  StreamTime busy_since_;
  std::chrono::nanoseconds busy_{0};
  int64_t depth_sum_ = 0;
  StreamerStats stats_;
};

}  // namespace moraine
