#include "storage/stream/scheduler.h"

#include <algorithm>

#include "runtime/core/check.h"

namespace moraine {
namespace {

constexpr int64_t RoundDown(int64_t value) { return value & ~(kStreamBlock - 1); }
constexpr int64_t RoundUp(int64_t value) { return RoundDown(value + kStreamBlock - 1); }

// A number is the index of its place in the table and, above it, how many requests came before.
constexpr int kIndexBits = 20;

std::byte* BlockOf(std::byte* at) {
  return at - static_cast<int64_t>(reinterpret_cast<uintptr_t>(at) % static_cast<uintptr_t>(kStreamBlock));
}

// Blocks of memory two ranges would both write are harmless only where both write the same bytes there.
bool Clash(const StreamRange& a, const StreamRange& b) {
  if (a.bytes == 0 || b.bytes == 0) return false;
  const std::byte* a_begin = BlockOf(a.to);
  const std::byte* b_begin = BlockOf(b.to);
  const std::byte* a_end = a_begin + RoundUp(a.offset + a.bytes) - RoundDown(a.offset);
  const std::byte* b_end = b_begin + RoundUp(b.offset + b.bytes) - RoundDown(b.offset);
  if (a_end <= b_begin || b_end <= a_begin) return false;
  return a.file != b.file || b_begin - a_begin != RoundDown(b.offset) - RoundDown(a.offset);
}

}  // namespace

StreamScheduler::StreamScheduler(std::vector<int> lane_of_file, const Limits& limits)
    : limits_(limits), lane_of_file_(std::move(lane_of_file)) {
  int lanes = 1;
  for (const int lane : lane_of_file_) lanes = std::max(lanes, lane + 1);
  MORAINE_CHECK(limits.depth > 0 && limits.max_requests > 0 && limits.max_requests < 1 << kIndexBits);
  MORAINE_CHECK(limits.chunk_bytes > 0 && limits.chunk_bytes % kStreamBlock == 0);
  lanes_.resize(static_cast<size_t>(lanes));
  requests_.resize(static_cast<size_t>(limits.max_requests));
  ranges_.resize(requests_.size() * kMaxStreamRanges);
  chunks_.resize(lanes_.size() * static_cast<size_t>(limits.depth));
  for (int32_t i = limits.max_requests - 1; i >= 0; --i) free_requests_.push_back(i);
  for (size_t i = chunks_.size(); i-- > 0;) {
    chunks_[i].chunk.id = static_cast<uint32_t>(i);
    free_chunks_.push_back(static_cast<uint32_t>(i));
  }
}

int32_t StreamScheduler::IndexOf(uint64_t number) const {
  const auto index = static_cast<int64_t>(number & ((uint64_t{1} << kIndexBits) - 1));
  MORAINE_CHECK(index < limits_.max_requests);
  MORAINE_CHECK_EQ(requests_[static_cast<size_t>(index)].number, number);
  return static_cast<int32_t>(index);
}

uint64_t StreamScheduler::Add(std::span<const StreamRange> ranges, ReadClass urgency, StreamTime now) {
  MORAINE_CHECK(ranges.size() <= static_cast<size_t>(kMaxStreamRanges));
  MORAINE_CHECK(!free_requests_.empty());
  const int32_t index = free_requests_.back();
  free_requests_.pop_back();
  Request& request = requests_[static_cast<size_t>(index)];
  request = {.number = ++serial_ << kIndexBits | static_cast<uint64_t>(index),
             .urgency = urgency,
             .ranges = static_cast<int>(ranges.size())};
  ++stats_.requests;
  for (size_t i = 0; i < ranges.size(); ++i) {
    const StreamRange& range = ranges[i];
    MORAINE_CHECK(range.file >= 0 && static_cast<size_t>(range.file) < lane_of_file_.size());
    MORAINE_CHECK(range.offset >= 0 && range.bytes >= 0);
    MORAINE_CHECK_EQ(reinterpret_cast<uintptr_t>(range.to) % kStreamBlock,
                     static_cast<uint64_t>(range.offset % kStreamBlock));
    for (size_t k = 0; k < i; ++k) MORAINE_CHECK(!Clash(ranges[k], range));
    const int32_t slot = index * kMaxStreamRanges + static_cast<int32_t>(i);
    ranges_[static_cast<size_t>(slot)] = {.file = range.file,
                                          .next = RoundDown(range.offset),
                                          .wanted_end = range.offset + range.bytes,
                                          .to = BlockOf(range.to)};
    if (range.bytes == 0) continue;
    Lane& lane = LaneOf(range.file);
    if (lane.under_way == 0 && !NextClass(lane)) lane.answered = now;
    Link(slot, urgency);
    ++request.queued;
    stats_.wanted_bytes += range.bytes;
  }
  EndIfOver(request);
  return request.number;
}

void StreamScheduler::Link(int32_t range, ReadClass urgency) {
  Range& entry = ranges_[static_cast<size_t>(range)];
  Queue& queue = LaneOf(entry.file).queues[static_cast<size_t>(urgency)];
  entry.before = queue.last;
  entry.after = kNone;
  entry.queued = true;
  (queue.last == kNone ? queue.first : ranges_[static_cast<size_t>(queue.last)].after) = range;
  queue.last = range;
}

void StreamScheduler::Unlink(int32_t range, ReadClass urgency) {
  Range& entry = ranges_[static_cast<size_t>(range)];
  Queue& queue = LaneOf(entry.file).queues[static_cast<size_t>(urgency)];
  (entry.before == kNone ? queue.first : ranges_[static_cast<size_t>(entry.before)].after) = entry.after;
  (entry.after == kNone ? queue.last : ranges_[static_cast<size_t>(entry.after)].before) = entry.before;
  entry.queued = false;
}

void StreamScheduler::Raise(uint64_t number, ReadClass urgency) {
  const int32_t index = IndexOf(number);
  Request& request = requests_[static_cast<size_t>(index)];
  if (request.done || urgency >= request.urgency) return;
  if (urgency == ReadClass::kDemand) ++stats_.adopted;
  for (int32_t i = 0; i < request.ranges; ++i) {
    const int32_t slot = index * kMaxStreamRanges + i;
    if (!ranges_[static_cast<size_t>(slot)].queued) continue;
    Unlink(slot, request.urgency);
    Link(slot, urgency);
  }
  request.urgency = urgency;
}

bool StreamScheduler::Drop(uint64_t number) {
  const int32_t index = IndexOf(number);
  Request& request = requests_[static_cast<size_t>(index)];
  if (request.queued == 0) return false;
  ++stats_.dropped;
  SetFault(index, {.kind = StreamFault::Kind::kDropped});
  EndIfOver(request);
  return !request.started;
}

void StreamScheduler::DropAll() {
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i].number == 0 || requests_[i].done) continue;
    SetFault(static_cast<int32_t>(i), {.kind = StreamFault::Kind::kDropped});
    EndIfOver(requests_[i]);
  }
}

// What of it has not been started never will be.
void StreamScheduler::Forget(int32_t request) {
  Request& entry = requests_[static_cast<size_t>(request)];
  for (int32_t i = 0; i < entry.ranges; ++i) {
    const int32_t slot = request * kMaxStreamRanges + i;
    if (ranges_[static_cast<size_t>(slot)].queued) Unlink(slot, entry.urgency);
  }
  entry.queued = 0;
}

void StreamScheduler::SetFault(int32_t request, StreamFault fault) {
  Request& entry = requests_[static_cast<size_t>(request)];
  Forget(request);
  if (entry.fault.has_value()) return;
  if (fault.kind != StreamFault::Kind::kDropped) ++stats_.errors;
  entry.fault = std::move(fault);
}

void StreamScheduler::EndIfOver(Request& request) {
  if (request.queued == 0 && request.under_way == 0) request.done = ended_ = true;
}

const StreamFault* StreamScheduler::Fault(uint64_t number) const {
  const Request& request = At(number);
  return request.fault.has_value() ? &*request.fault : nullptr;
}

void StreamScheduler::Release(uint64_t number) {
  const int32_t index = IndexOf(number);
  MORAINE_CHECK(Settled(number));
  requests_[static_cast<size_t>(index)] = {};
  free_requests_.push_back(index);
}

// The class the lane's next chunk comes from; none when it is full or has nothing to start.
std::optional<ReadClass> StreamScheduler::NextClass(const Lane& lane) const {
  if (lane.under_way >= limits_.depth) return std::nullopt;
  for (const ReadClass urgency : {ReadClass::kDemand, ReadClass::kLookAhead, ReadClass::kWarmUp}) {
    if (lane.queues[static_cast<size_t>(urgency)].first == kNone) continue;
    if (urgency != ReadClass::kDemand && lane.background >= limits_.background_depth) return std::nullopt;
    return urgency;
  }
  return std::nullopt;
}

bool StreamScheduler::Ready() const {
  return std::any_of(lanes_.begin(), lanes_.end(),
                     [this](const Lane& lane) { return NextClass(lane).has_value(); });
}

size_t StreamScheduler::Take(std::span<StreamChunk> out, StreamTime now) {
  size_t taken = 0;
  for (Chunk& chunk : chunks_) {
    if (waiting_ == 0 || taken == out.size()) break;
    if (chunk.state != Chunk::State::kWaiting) continue;
    const bool over = requests_[static_cast<size_t>(chunk.request)].fault.has_value();
    if (!over && chunk.due > now) continue;
    --waiting_;
    if (over) {
      End(chunk, now);
    } else {
      Start(chunk, now, &out[taken++]);
    }
  }
  for (Lane& lane : lanes_) {
    while (taken < out.size()) {
      const auto urgency = NextClass(lane);
      if (!urgency) break;
      Cut(lane, *urgency, now, &out[taken++]);
    }
  }
  return taken;
}

// Cuts the next chunk off the first range of the lane's queue. The last one takes up to a quarter more rather
// than leave a crumb.
void StreamScheduler::Cut(Lane& lane, ReadClass urgency, StreamTime now, StreamChunk* out) {
  const int32_t slot = lane.queues[static_cast<size_t>(urgency)].first;
  Range& range = ranges_[static_cast<size_t>(slot)];
  const int32_t owner = slot / kMaxStreamRanges;
  Request& request = requests_[static_cast<size_t>(owner)];
  const int64_t left = RoundUp(range.wanted_end) - range.next;
  const int64_t bytes = left <= limits_.chunk_bytes + limits_.chunk_bytes / 4 ? left : limits_.chunk_bytes;

  Chunk& chunk = chunks_[free_chunks_.back()];
  free_chunks_.pop_back();
  chunk.chunk = {.id = chunk.chunk.id,
                 .file = range.file,
                 .offset = range.next,
                 .bytes = bytes,
                 .needed = std::min(range.wanted_end - range.next, bytes),
                 .to = range.to};
  chunk.request = owner;
  chunk.background = urgency != ReadClass::kDemand;
  range.next += bytes;
  range.to += bytes;
  if (bytes == left) {
    Unlink(slot, urgency);
    --request.queued;
  }
  request.started = true;
  ++request.under_way;
  ++lane.under_way;
  if (chunk.background) ++lane.background;
  if (under_way_++ == 0) busy_since_ = now;
  stats_.max_depth = std::max(stats_.max_depth, under_way_);
  Start(chunk, now, out);
}

void StreamScheduler::Start(Chunk& chunk, StreamTime now, StreamChunk* out) {
  chunk.state = Chunk::State::kUnderWay;
  chunk.started = now;
  ++stats_.reads;
  depth_sum_ += under_way_;
  *out = chunk.chunk;
}

// The drive has said something about a chunk, so it lives.
void StreamScheduler::Answered(Chunk& chunk, StreamTime now) {
  MORAINE_CHECK(chunk.state == Chunk::State::kUnderWay);
  LaneOf(chunk.chunk.file).answered = now;
}

void StreamScheduler::Advance(uint32_t id, int64_t bytes, StreamTime now) {
  StreamChunk& rest = chunks_[id].chunk;
  MORAINE_CHECK(bytes > 0 && bytes < rest.needed && bytes % kStreamBlock == 0);
  rest.offset += bytes;
  rest.bytes -= bytes;
  rest.needed -= bytes;
  rest.to += bytes;
  rest.tries = 0;
  ++stats_.short_reads;
  stats_.read_bytes += bytes;
  Retry(id, now, now, false);
}

void StreamScheduler::Retry(uint32_t id, StreamTime now, StreamTime due, bool counts) {
  Chunk& chunk = chunks_[id];
  Answered(chunk, now);
  chunk.state = Chunk::State::kWaiting;
  chunk.due = due;
  ++waiting_;
  if (!counts) return;
  ++chunk.chunk.tries;
  ++stats_.retries;
}

void StreamScheduler::Finish(uint32_t id, int64_t bytes, StreamTime now) {
  Answered(chunks_[id], now);
  stats_.read_bytes += bytes;
  End(chunks_[id], now);
}

void StreamScheduler::Fail(uint32_t id, Error error, StreamTime now) {
  Chunk& chunk = chunks_[id];
  Answered(chunk, now);
  SetFault(chunk.request, {.kind = StreamFault::Kind::kError,
                           .file = chunk.chunk.file,
                           .offset = chunk.chunk.offset,
                           .bytes = chunk.chunk.needed,
                           .error = std::move(error)});
  End(chunk, now);
}

void StreamScheduler::End(Chunk& chunk, StreamTime now) {
  Lane& lane = LaneOf(chunk.chunk.file);
  Request& request = requests_[static_cast<size_t>(chunk.request)];
  chunk.state = Chunk::State::kFree;
  free_chunks_.push_back(chunk.chunk.id);
  --lane.under_way;
  if (chunk.background) --lane.background;
  --request.under_way;
  if (--under_way_ == 0) busy_ += now - busy_since_;
  EndIfOver(request);
}

StreamTime StreamScheduler::NextRetry() const {
  StreamTime due = StreamTime::max();
  if (waiting_ == 0) return due;
  for (const Chunk& chunk : chunks_)
    if (chunk.state == Chunk::State::kWaiting) due = std::min(due, chunk.due);
  return due;
}

// Calls visit(request, file, offset, bytes) for what of each request is late: chunks under way, and ranges on
// a lane that is silent. `visit` may take the ranges it is shown off their queues.
template <typename Visit>
void StreamScheduler::VisitLate(StreamTime now, std::chrono::nanoseconds timeout, Visit&& visit) {
  const auto silent = [&](const Lane& lane) { return now - lane.answered >= timeout; };
  for (const Chunk& chunk : chunks_) {
    if (chunk.state == Chunk::State::kFree) continue;
    if (now - chunk.started < timeout && !silent(LaneOf(chunk.chunk.file))) continue;
    visit(chunk.request, chunk.chunk.file, chunk.chunk.offset, chunk.chunk.needed);
  }
  for (const Lane& lane : lanes_) {
    if (!silent(lane)) continue;
    for (const Queue& queue : lane.queues) {
      for (int32_t slot = queue.first; slot != kNone;) {
        const Range& range = ranges_[static_cast<size_t>(slot)];
        visit(slot / kMaxStreamRanges, range.file, range.next, range.wanted_end - range.next);
        slot = range.queued ? range.after : queue.first;
      }
    }
  }
}

void StreamScheduler::FailStalled(StreamTime now, std::chrono::nanoseconds timeout,
                                  std::chrono::nanoseconds grace) {
  bool late = false;
  VisitLate(now, timeout, [&](int32_t request, int32_t, int64_t, int64_t) {
    late = late || !requests_[static_cast<size_t>(request)].done;
  });
  if (!late) {
    late_since_.reset();
    return;
  }
  if (!late_since_) late_since_ = now;
  if (now - *late_since_ < grace) return;
  late_since_.reset();
  VisitLate(now, timeout, [this](int32_t request, int32_t file, int64_t offset, int64_t bytes) {
    Request& entry = requests_[static_cast<size_t>(request)];
    if (entry.done) return;
    if (!entry.fault.has_value()) ++stats_.stalls;
    SetFault(request, {.kind = StreamFault::Kind::kStalled, .file = file, .offset = offset, .bytes = bytes});
    entry.done = true;
  });
}

StreamerStats StreamScheduler::stats(StreamTime now) const {
  StreamerStats stats = stats_;
  const auto busy = under_way_ > 0 ? busy_ + (now - busy_since_) : busy_;
  stats.busy_seconds = std::chrono::duration<double>(busy).count();
  stats.mean_depth = stats.reads > 0 ? static_cast<double>(depth_sum_) / static_cast<double>(stats.reads) : 0;
  return stats;
}

}  // namespace moraine
