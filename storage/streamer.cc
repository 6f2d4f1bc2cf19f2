#include "storage/streamer.h"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

#include "runtime/core/check.h"
#include "runtime/core/printable.h"
#include "storage/stream/backend.h"
#include "storage/stream/io_thread.h"
#include "storage/stream/open_backend.h"
#include "storage/stream/scheduler.h"
#include "storage/stream/stream_files.h"

namespace moraine {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;

constexpr int64_t kMostChunkBytes = int64_t{256} << 20;
constexpr int kMostDepth = 1024;
constexpr int kMostRequests = 1 << 16;
constexpr milliseconds kLongest = std::chrono::hours(24);

// The n-th try of a chunk waits n times as long, up to a bound: what is short (EAGAIN, ENOMEM) has time to
// come back.
constexpr milliseconds kRetryAfter{1};
constexpr int kLongestRetry = 100;

// Long enough to be no polling. Reap takes no endless wait.
constexpr nanoseconds kIdle = std::chrono::hours(1);

StreamTime Now() { return std::chrono::steady_clock::now(); }

Status CheckOptions(const StreamerOptions& options) {
  const auto refuse = [](const char* name, int64_t value, int64_t least, int64_t most) {
    return Fail(ErrorKind::kUsage, fmt::format("{} is {}; expected {} to {}", name, value, least, most));
  };
  if (options.depth < 1 || options.depth > kMostDepth)
    return refuse("the read depth", options.depth, 1, kMostDepth);
  if (options.background_depth < 1 || options.background_depth > kMostDepth)
    return refuse("the background depth", options.background_depth, 1, kMostDepth);
  if (options.chunk_bytes < kStreamBlock || options.chunk_bytes > kMostChunkBytes)
    return refuse("the chunk size", options.chunk_bytes, kStreamBlock, kMostChunkBytes);
  if (options.chunk_bytes % kStreamBlock != 0)
    return Fail(ErrorKind::kUsage, fmt::format("the chunk size is {} bytes; expected a multiple of {}",
                                               options.chunk_bytes, kStreamBlock));
  if (options.retries < 0) return refuse("the number of retries", options.retries, 0, INT32_MAX);
  if (options.stall_timeout <= milliseconds(0) || options.stall_timeout > kLongest)
    return refuse("the stall timeout in ms", options.stall_timeout.count(), 1, kLongest.count());
  if (options.check_every < milliseconds(0) || options.check_every > kLongest)
    return refuse("the time between looks at a file in ms", options.check_every.count(), 0, kLongest.count());
  if (options.max_requests < 1 || options.max_requests > kMostRequests)
    return refuse("the number of requests", options.max_requests, 1, kMostRequests);
  return {};
}

bool WorthRetrying(int error) {
  return error == EIO || error == EAGAIN || error == EINTR || error == ECANCELED || error == ENOMEM ||
         error == EBUSY;
}

}  // namespace

// `mutex_` guards the scheduler and the notices. opened_ and backend_ belong to the thread, which holds no
// lock while it calls them, so that a file system that hangs holds up nobody but the reads.
class Streamer::Impl {
 public:
  Impl(std::span<const File> files, const StreamerOptions& options, StreamFiles opened,
       std::unique_ptr<StreamBackend> backend, std::vector<std::string> notices)
      : files_(files),
        options_(options),
        look_(std::clamp<nanoseconds>(options.stall_timeout / 4, milliseconds(1), milliseconds(1000))),
        opened_(std::move(opened)),
        backend_(std::move(backend)),
        notices_(std::move(notices)),
        scheduler_(opened_.device_of(), {.depth = options.depth,
                                         .background_depth = options.background_depth,
                                         .chunk_bytes = options.chunk_bytes,
                                         .max_requests = options.max_requests}),
        chunks_(static_cast<size_t>(scheduler_.capacity())),
        reads_(chunks_.size()),
        was_direct_(chunks_.size()),
        results_(chunks_.size()) {
    NoteFiles();
  }

  ~Impl() {
    if (!thread_.joinable()) return;
    {
      const std::lock_guard lock(mutex_);
      scheduler_.DropAll();
      stop_ = true;
    }
    backend_->Wake();
    thread_.join();
  }

  Status Start() {
    try {
      thread_ = std::thread([this] { Loop(); });
    } catch (const std::system_error& error) {
      return Fail(ErrorKind::kIo,
                  fmt::format("the system gave no thread to stream with: {}", error.code().message()));
    }
    return {};
  }

  uint64_t Read(std::span<const StreamRange> ranges, ReadClass urgency) {
    for (const StreamRange& range : ranges) {
      MORAINE_CHECK(range.file >= 0 && static_cast<size_t>(range.file) < files_.size());
      MORAINE_CHECK(range.bytes <= files_[static_cast<size_t>(range.file)].bytes() - range.offset);
    }
    uint64_t number = 0;
    bool wake = false;
    {
      const std::lock_guard lock(mutex_);
      number = scheduler_.Add(ranges, urgency, Now());
      wake = WakeNeeded();
    }
    if (wake) backend_->Wake();
    return number;
  }

  void Raise(uint64_t number, ReadClass urgency) {
    bool wake = false;
    {
      const std::lock_guard lock(mutex_);
      scheduler_.Raise(number, urgency);
      wake = WakeNeeded();
    }
    if (wake) backend_->Wake();
  }

  bool Drop(uint64_t number) {
    const std::lock_guard lock(mutex_);
    return scheduler_.Drop(number);
  }

  // The drive is not the thread's to watch: it may itself be held up in a call that hangs.
  Status Wait(uint64_t number) {
    std::unique_lock lock(mutex_);
    StreamTime next = Now() + look_;
    while (!scheduler_.Done(number)) {
      if (ended_.wait_until(lock, next) == std::cv_status::no_timeout) continue;
      scheduler_.FailStalled(Now(), options_.stall_timeout, look_);
      next = Now() + look_;
    }
    const StreamFault* fault = scheduler_.Fault(number);
    return fault == nullptr ? Status() : tl::unexpected(Describe(*fault));
  }

  bool Done(uint64_t number) {
    const std::lock_guard lock(mutex_);
    if (scheduler_.Done(number)) return true;
    scheduler_.FailStalled(Now(), options_.stall_timeout, look_);
    return scheduler_.Done(number);
  }

  bool Settled(uint64_t number) {
    const std::lock_guard lock(mutex_);
    return scheduler_.Settled(number);
  }

  void Release(uint64_t number) {
    const std::lock_guard lock(mutex_);
    scheduler_.Release(number);
  }

  int Room() const {
    const std::lock_guard lock(mutex_);
    return scheduler_.room();
  }

  StreamerStats stats() const {
    StreamerStats stats;
    {
      const std::lock_guard lock(mutex_);
      stats = scheduler_.stats(Now());
    }
    stats.cpu_seconds = backend_->CpuSeconds() + ThreadCpuSeconds(thread_);
    return stats;
  }

  std::string Describe() const {
    const std::lock_guard lock(mutex_);
    return fmt::format("{}, {}, depth {} x {} KiB on {} device{}", backend_->Describe(), how_, options_.depth,
                       options_.chunk_bytes >> 10, scheduler_.lanes(), scheduler_.lanes() == 1 ? "" : "s");
  }

  std::vector<std::string> Notices() const {
    const std::lock_guard lock(mutex_);
    return notices_;
  }

 private:
  // True when the thread has to be told: it may sleep, and nothing else will wake it for this.
  bool WakeNeeded() {
    if (told_ || !scheduler_.Ready()) return false;
    told_ = true;
    return true;
  }

  void Loop() {
    AskForShortSlices();
    backend_->Start();
    size_t results = 0;
    while (true) {
      for (size_t i = 0; i < results; ++i) Judge(results_[i]);
      size_t count = 0;
      nanoseconds timeout = kIdle;
      {
        const std::lock_guard lock(mutex_);
        told_ = false;
        const StreamTime now = Now();
        count = scheduler_.Take(chunks_, now);
        if (scheduler_.TakeEnded()) ended_.notify_all();
        if (stop_ && scheduler_.under_way() == 0) return;
        const StreamTime due = scheduler_.NextRetry();
        if (due != StreamTime::max()) timeout = std::max(due - now, nanoseconds(0));
      }
      Submit({chunks_.data(), count});
      results = backend_->Reap(results_, timeout);
    }
  }

  void Submit(std::span<const StreamChunk> chunks) {
    size_t count = 0;
    for (const StreamChunk& chunk : chunks) {
      const Status same = opened_.Check(chunk.file, Now(), false);
      if (!same.has_value()) {
        Error failure = ReadError(chunk, "not read: " + same.error().message);
        const std::lock_guard lock(mutex_);
        scheduler_.Fail(chunk.id, std::move(failure), Now());
        continue;
      }
      was_direct_[chunk.id] = opened_.direct(chunk.file);
      reads_[count++] = {.id = chunk.id,
                         .file = chunk.file,
                         .fd = opened_.fd(chunk.file),
                         .offset = chunk.offset,
                         .bytes = chunk.bytes,
                         .to = chunk.to};
    }
    if (count > 0) backend_->Submit({reads_.data(), count});
    if (count < chunks.size()) backend_->Wake();
  }

  // What one result means: all there, a part, try again, or the end of its request.
  void Judge(const ChunkResult& done) {
    const StreamChunk chunk = scheduler_.chunk(done.id);
    if (done.result >= chunk.needed) {
      const std::lock_guard lock(mutex_);
      return scheduler_.Finish(chunk.id, done.result, Now());
    }
    if (done.result > 0) {
      const int64_t whole = done.result / kStreamBlock * kStreamBlock;
      if (whole > 0) {
        const std::lock_guard lock(mutex_);
        return scheduler_.Advance(chunk.id, whole, Now());
      }
    }
    const int error = done.result < 0 ? static_cast<int>(-done.result) : 0;
    if (error == EINVAL && was_direct_[chunk.id]) {
      opened_.UseBuffered(chunk.file, "its file system refuses direct reads of it");
      NoteFiles();
      const std::lock_guard lock(mutex_);
      return scheduler_.Retry(chunk.id, Now(), Now(), false);
    }
    const Status same = opened_.Check(chunk.file, Now(), true);
    if (same.has_value() && chunk.tries < options_.retries && (error == 0 || WorthRetrying(error))) {
      const std::lock_guard lock(mutex_);
      return scheduler_.Retry(chunk.id, Now(), Now() + std::min(chunk.tries + 1, kLongestRetry) * kRetryAfter,
                              true);
    }
    std::string why =
        fmt::format("got {}: {}", std::max<int64_t>(done.result, 0),
                    error != 0 ? std::generic_category().message(error) : "the file ends there");
    if (chunk.tries > 0) why += fmt::format(", tried {} times", chunk.tries + 1);
    if (!same.has_value()) why += "; " + same.error().message;
    Error failure = ReadError(chunk, why);
    const std::lock_guard lock(mutex_);
    scheduler_.Fail(chunk.id, std::move(failure), Now());
  }

  Error ReadError(const StreamChunk& chunk, const std::string& why) const {
    return {ErrorKind::kIo,
            fmt::format("{}: reading {} bytes at offset {}: {}", Printable(opened_.path(chunk.file)),
                        chunk.needed, chunk.offset, why)};
  }

  Error Describe(const StreamFault& fault) const {
    switch (fault.kind) {
      case StreamFault::Kind::kError:
        return fault.error;
      case StreamFault::Kind::kDropped:
        return {ErrorKind::kInterrupted, "the read was dropped before all of it had been started"};
      case StreamFault::Kind::kStalled:
        break;
    }
    return {ErrorKind::kIo,
            fmt::format("{}: reading {} bytes at offset {}: nothing came for {} ms: the drive hangs; see the "
                        "kernel's log",
                        Printable(opened_.path(fault.file)), fault.bytes, fault.offset,
                        options_.stall_timeout.count())};
  }

  // How files are read now, for Describe and Notices.
  void NoteFiles() {
    size_t direct = 0;
    for (size_t f = 0; f < opened_.size(); ++f) direct += opened_.direct(static_cast<int32_t>(f)) ? 1 : 0;
    const std::lock_guard lock(mutex_);
    how_ = direct == 0                ? "through the page cache"
           : direct == opened_.size() ? "O_DIRECT"
                                      : fmt::format("O_DIRECT for {} of {} files", direct, opened_.size());
    if (!noted_ && !opened_.notice().empty()) {
      noted_ = true;
      notices_.push_back(opened_.notice());
    }
  }

  const std::span<const File> files_;
  const StreamerOptions options_;
  const nanoseconds look_;  // how often who waits looks whether the drive hangs
  StreamFiles opened_;
  const std::unique_ptr<StreamBackend> backend_;

  mutable std::mutex mutex_;
  std::condition_variable ended_;  // some request is done
  std::vector<std::string> notices_;
  std::string how_;
  bool noted_ = false;
  bool told_ = false;  // Wake has been called and the thread has not looked yet
  bool stop_ = false;
  StreamScheduler scheduler_;

  // The thread's.
  std::vector<StreamChunk> chunks_;
  std::vector<ChunkRead> reads_;
  std::vector<bool> was_direct_;  // by chunk: how it was read
  std::vector<ChunkResult> results_;
  mutable std::thread thread_;
};

Result<std::unique_ptr<Streamer>> Streamer::Open(std::span<const File> files,
                                                 const StreamerOptions& options) {
  MORAINE_RETURN_IF_ERROR(CheckOptions(options));
  MORAINE_ASSIGN_OR_RETURN(StreamFiles opened, StreamFiles::Open(files, options.direct, options.check_every));
  MORAINE_ASSIGN_OR_RETURN(OpenedBackend backend, OpenBackend(options, opened));
  std::unique_ptr<Streamer> streamer(new Streamer(std::make_unique<Impl>(
      files, options, std::move(opened), std::move(backend.backend), std::move(backend.notices))));
  MORAINE_RETURN_IF_ERROR(streamer->impl_->Start());
  return streamer;
}

Result<std::unique_ptr<Streamer>> Streamer::Open(std::span<const File> files, const StreamerOptions& options,
                                                 std::unique_ptr<StreamBackend> backend) {
  MORAINE_RETURN_IF_ERROR(CheckOptions(options));
  MORAINE_ASSIGN_OR_RETURN(StreamFiles opened, StreamFiles::Open(files, options.direct, options.check_every));
  std::unique_ptr<Streamer> streamer(new Streamer(std::make_unique<Impl>(
      files, options, std::move(opened), std::move(backend), std::vector<std::string>())));
  MORAINE_RETURN_IF_ERROR(streamer->impl_->Start());
  return streamer;
}

Streamer::Streamer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Streamer::~Streamer() = default;

Ticket Streamer::Read(std::span<const StreamRange> ranges, ReadClass urgency) {
  return {this, impl_->Read(ranges, urgency)};
}
void Streamer::Raise(uint64_t number, ReadClass urgency) { impl_->Raise(number, urgency); }
bool Streamer::Drop(uint64_t number) { return impl_->Drop(number); }
Status Streamer::Wait(uint64_t number) { return impl_->Wait(number); }
bool Streamer::Done(uint64_t number) { return impl_->Done(number); }
bool Streamer::Settled(uint64_t number) { return impl_->Settled(number); }
void Streamer::Release(uint64_t number) { impl_->Release(number); }
int Streamer::Room() const { return impl_->Room(); }
StreamerStats Streamer::stats() const { return impl_->stats(); }
std::string Streamer::Describe() const { return impl_->Describe(); }
std::vector<std::string> Streamer::Notices() const { return impl_->Notices(); }

}  // namespace moraine
