#include "tools/bench/stream_run.h"

#include <sys/resource.h>

#include <array>
#include <cstring>
#include <numeric>
#include <optional>

#include "runtime/core/check.h"
#include "tools/bench/read_bandwidth.h"
#include "tools/interrupt.h"

namespace moraine::tools {
namespace {

constexpr int64_t kBlock = kStreamBlock;

double ProcessCpuSeconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// What has passed since it was made, as a reading.
class Meter {
 public:
  explicit Meter(const Streamer& streamer)
      : streamer_(streamer), start_(Seconds()), before_(streamer.stats()), process_(ProcessCpuSeconds()) {}
  double seconds() const { return Seconds() - start_; }
  StreamReading Read() const {
    const double wall = seconds();
    const StreamerStats now = streamer_.stats();
    return {.bytes_s = static_cast<double>(now.read_bytes - before_.read_bytes) / wall,
            .core = (now.cpu_seconds - before_.cpu_seconds) / wall,
            .process = (ProcessCpuSeconds() - process_) / wall};
  }

 private:
  const Streamer& streamer_;
  double start_;
  StreamerStats before_;
  double process_;
};

}  // namespace

Result<StreamRun> StreamRun::Make(const ExpertFiles& files, int64_t tensor_bytes, int slots) {
  StreamRun run;
  run.tensor_bytes_ = tensor_bytes;
  run.slots_ = slots;
  // Each tensor has room for the blocks that enclose it wherever it begins.
  run.slot_bytes_ = 3 * ((tensor_bytes + kBlock - 1) / kBlock + 1) * kBlock;
  run.experts_ = files.Experts(tensor_bytes);
  MORAINE_CHECK(static_cast<int>(run.experts_.size()) > slots);
  MORAINE_ASSIGN_OR_RETURN(const std::unique_ptr<Topology> topology, Topology::Read());
  MORAINE_ASSIGN_OR_RETURN(run.memory_, topology->Allocate(slots * run.slot_bytes_, NodeId{0}));
  // Memory never touched is made by the first to read into it, at his cost.
  std::memset(run.memory_.data(), 1, static_cast<size_t>(run.memory_.bytes()));
  return run;
}

Ticket StreamRun::Ask(Streamer& streamer, int slot) {
  const StoredExpert& expert = experts_[next_];
  next_ = (next_ + 1) % experts_.size();
  std::array<StreamRange, 3> ranges;
  for (size_t i = 0; i < ranges.size(); ++i) {
    const int64_t offset = expert.offset + static_cast<int64_t>(i) * tensor_bytes_;
    std::byte* place = memory_.data() + slot * slot_bytes_ + static_cast<int64_t>(i) * (slot_bytes_ / 3);
    ranges[i] = {
        .file = expert.file, .offset = offset, .bytes = tensor_bytes_, .to = place + offset % kBlock};
  }
  return streamer.Read(ranges, ReadClass::kDemand);
}

Result<StreamReading> StreamRun::Steady(Streamer& streamer, double seconds) {
  std::vector<Ticket> tickets;
  tickets.reserve(static_cast<size_t>(slots_));
  for (int slot = 0; slot < slots_; ++slot) tickets.push_back(Ask(streamer, slot));
  std::optional<Meter> meter;
  const double start = Seconds();
  int slot = 0;
  Status status;
  while (status.has_value() && !Interrupted()) {
    const double now = Seconds() - start;
    if (!meter && now >= kRampSeconds) meter.emplace(streamer);
    if (now >= kRampSeconds + seconds) break;
    Ticket& ticket = tickets[static_cast<size_t>(slot)];
    status = ticket.Wait();
    streamer.Release(ticket.number());
    ticket = Ask(streamer, slot);
    slot = (slot + 1) % slots_;
  }
  const StreamReading reading = meter ? meter->Read() : StreamReading{};
  for (const Ticket& ticket : tickets) {
    const Status end = ticket.Wait();
    if (status.has_value()) status = end;
    streamer.Release(ticket.number());
  }
  if (!status.has_value()) return tl::unexpected(status.error());
  return reading;
}

Result<StreamReading> StreamRun::Layers(Streamer& streamer, int misses, double seconds) {
  MORAINE_CHECK(misses <= slots_);
  std::vector<Ticket> tickets(static_cast<size_t>(misses));
  std::vector<double> times;
  const Meter meter(streamer);
  double before = 0;
  while (meter.seconds() < seconds && !Interrupted()) {
    for (int slot = 0; slot < misses; ++slot) tickets[static_cast<size_t>(slot)] = Ask(streamer, slot);
    Status status;
    for (const Ticket& ticket : tickets) {
      const Status one = ticket.Wait();
      if (status.has_value()) status = one;
      streamer.Release(ticket.number());
    }
    if (!status.has_value()) return tl::unexpected(status.error());
    const double now = meter.seconds();
    times.push_back(now - before);
    before = now;
  }
  const auto layers = static_cast<int64_t>(times.size());
  StreamReading reading = meter.Read();
  reading.layers_s = static_cast<double>(layers) / before;
  reading.layer_ms = 1e3 * Median(times);
  return reading;
}

ComputeLoad::ComputeLoad(int threads) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Loop(); });
  for (int reading = 0; reading < threads; reading = reading_) reading_.wait(reading);
}

ComputeLoad::~ComputeLoad() {
  stop_ = true;
  for (std::thread& thread : threads_) thread.join();
}

void ComputeLoad::Loop() {
  std::vector<uint64_t> memory(size_t{16} << 20, 1);
  uint64_t sum = 0;
  ++reading_;
  reading_.notify_one();
  constexpr size_t kPiece = size_t{32} << 10;  // words
  for (size_t at = 0; !stop_.load(std::memory_order_relaxed); at = (at + kPiece) % memory.size()) {
    sum = std::accumulate(memory.begin() + static_cast<int64_t>(at),
                          memory.begin() + static_cast<int64_t>(at + kPiece), sum);
    bytes_.fetch_add(kPiece * sizeof(uint64_t), std::memory_order_relaxed);
  }
  // The sum must be used, or the loop may be left out.
  if (sum == 0) bytes_ = 0;
}

}  // namespace moraine::tools
