#include "storage/stream/uring_backend.h"

#include <fmt/core.h>
#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <thread>

#include "runtime/core/check.h"

namespace moraine {
namespace {

// The name of the poll of `wake_`; chunks have small numbers.
constexpr uint64_t kWakeName = ~uint64_t{0};

// The kernel registers at most so much as one buffer.
constexpr int64_t kMostPerBuffer = int64_t{1} << 30;

// A ring that takes no more reads for the moment (EAGAIN, EBUSY) is asked again after this.
constexpr std::chrono::milliseconds kBusyWait{1};

std::string Reason(int error) { return std::generic_category().message(error); }

std::string WhyRefused(int error) {
  switch (error) {
    case ENOSYS:
      return "this kernel has none";
    case EPERM:
    case EACCES:
      return "forbidden by the container or by the sysctl kernel.io_uring_disabled";
    case ENOMEM:
      return "no memory for it, or the limit on locked memory (ulimit -l) is too low for this kernel";
    default:
      return Reason(error);
  }
}

}  // namespace

void UringBackend::CloseRing::operator()(io_uring* ring) const noexcept {
  ::io_uring_queue_exit(ring);
  delete ring;
}

Result<std::unique_ptr<UringBackend>> UringBackend::Open(const Options& options) {
  std::unique_ptr<UringBackend> backend(new UringBackend);
  auto ring = std::make_unique<io_uring>();
  io_uring_params params{};
  // One place beside the reads, for the poll.
  const int error =
      -::io_uring_queue_init_params(static_cast<unsigned>(options.reads + 1), ring.get(), &params);
  if (error == EMFILE || error == ENFILE) {
    return Fail(ErrorKind::kIo,
                fmt::format("io_uring: {}; raise the limit on open files (ulimit -n)", Reason(error)));
  }
  if (error != 0)
    return Fail(ErrorKind::kHardware, fmt::format("io_uring is refused: {}", WhyRefused(error)));
  backend->ring_.reset(ring.release());
  if ((params.features & IORING_FEAT_EXT_ARG) == 0)
    return Fail(ErrorKind::kHardware, "io_uring is refused: this kernel's is older than 5.11");
  const int wake = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake < 0)
    return Fail(ErrorKind::kIo,
                fmt::format("eventfd: {}; raise the limit on open files (ulimit -n)", Reason(errno)));
  backend->wake_ = Handle<FdTraits>(wake);
  backend->RegisterFiles(options.fds);
  backend->RegisterMemory(options.memory);
  return backend;
}

UringBackend::~UringBackend() = default;

void UringBackend::RegisterFiles(const std::vector<int>& fds) {
  if (fds.empty()) return;
  if (::io_uring_register_files(ring_.get(), fds.data(), static_cast<unsigned>(fds.size())) == 0) fds_ = fds;
}

void UringBackend::RegisterMemory(const std::vector<std::span<std::byte>>& memory) {
  int64_t bytes = 0;
  for (const std::span<std::byte> region : memory) {
    for (size_t at = 0; at < region.size(); at += kMostPerBuffer) {
      const size_t length = std::min<size_t>(region.size() - at, kMostPerBuffer);
      buffers_.push_back({region.data() + at, region.data() + at + length});
      bytes += static_cast<int64_t>(length);
    }
  }
  if (buffers_.empty()) return;
  std::sort(buffers_.begin(), buffers_.end(),
            [](const Buffer& a, const Buffer& b) { return a.begin < b.begin; });
  std::vector<iovec> vectors;
  for (const Buffer& buffer : buffers_)
    vectors.push_back({buffer.begin, static_cast<size_t>(buffer.end - buffer.begin)});
  const int error =
      -::io_uring_register_buffers(ring_.get(), vectors.data(), static_cast<unsigned>(vectors.size()));
  if (error == 0) return;
  buffers_.clear();
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  notice_ = error == ENOMEM
                ? fmt::format(
                      "the expert slots are not registered with io_uring: {} MiB of locked memory are "
                      "needed, the limit is {} KiB (ulimit -l); each read costs a little more CPU",
                      bytes >> 20, limit.rlim_cur >> 10)
                : fmt::format("the expert slots are not registered with io_uring: {}", Reason(error));
}

// The index of the registered buffer the read lies in, or -1.
int UringBackend::BufferOf(const ChunkRead& read) const {
  const auto after =
      std::upper_bound(buffers_.begin(), buffers_.end(), read.to,
                       [](const std::byte* at, const Buffer& buffer) { return at < buffer.begin; });
  if (after == buffers_.begin()) return -1;
  const auto buffer = after - 1;
  return read.to + read.bytes <= buffer->end ? static_cast<int>(buffer - buffers_.begin()) : -1;
}

void UringBackend::Start() {
  WatchForWake();
  ::io_uring_submit(ring_.get());
}

void UringBackend::WatchForWake() {
  io_uring_sqe* entry = ::io_uring_get_sqe(ring_.get());
  MORAINE_CHECK(entry != nullptr);
  ::io_uring_prep_poll_add(entry, wake_.get(), POLLIN);
  ::io_uring_sqe_set_data64(entry, kWakeName);
}

void UringBackend::Submit(std::span<const ChunkRead> reads) {
  for (const ChunkRead& read : reads) {
    io_uring_sqe* entry = ::io_uring_get_sqe(ring_.get());
    MORAINE_CHECK(entry != nullptr);
    const auto file = static_cast<size_t>(read.file);
    const bool registered = file < fds_.size() && fds_[file] == read.fd;
    const int fd = registered ? read.file : read.fd;
    const auto bytes = static_cast<unsigned>(read.bytes);
    const auto offset = static_cast<uint64_t>(read.offset);
    const int buffer = BufferOf(read);
    if (buffer < 0) {
      ::io_uring_prep_read(entry, fd, read.to, bytes, offset);
    } else {
      ::io_uring_prep_read_fixed(entry, fd, read.to, bytes, offset, buffer);
    }
    if (registered) ::io_uring_sqe_set_flags(entry, IOSQE_FIXED_FILE);
    ::io_uring_sqe_set_data64(entry, read.id);
    // One by one: the kernel merges neighbours that are submitted together into few long reads, which then
    // come back together, and the drive's queue runs empty. What it does not take now stays in the ring; Reap
    // offers it again.
    ::io_uring_submit(ring_.get());
  }
}

size_t UringBackend::Reap(std::span<ChunkResult> out, std::chrono::nanoseconds timeout) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
  __kernel_timespec limit{.tv_sec = seconds.count(), .tv_nsec = (timeout - seconds).count()};
  io_uring_cqe* first = nullptr;
  const int status = ::io_uring_submit_and_wait_timeout(ring_.get(), &first, 1, &limit, nullptr);
  // Neither signals nor timeouts matter: whoever calls this looks round and comes back.
  if (status < 0 && ::io_uring_sq_ready(ring_.get()) > 0) std::this_thread::sleep_for(kBusyWait);

  size_t count = 0;
  unsigned seen = 0;
  bool woken = false;
  unsigned head = 0;
  io_uring_cqe* entry = nullptr;
  io_uring_for_each_cqe(ring_.get(), head, entry) {
    if (entry->user_data == kWakeName) {
      woken = true;
    } else if (count < out.size()) {
      out[count++] = {.id = static_cast<uint32_t>(entry->user_data), .result = entry->res};
    } else {
      break;
    }
    ++seen;
  }
  ::io_uring_cq_advance(ring_.get(), seen);
  if (woken) {
    uint64_t wakes = 0;
    if (::read(wake_.get(), &wakes, sizeof wakes) < 0) MORAINE_CHECK_EQ(errno, EAGAIN);
    WatchForWake();
  }
  return count;
}

void UringBackend::Wake() {
  const uint64_t one = 1;
  // Refused only when 2^64 - 1 wakes have not been looked at.
  if (::write(wake_.get(), &one, sizeof one) < 0) MORAINE_CHECK_EQ(errno, EAGAIN);
}

std::string UringBackend::Describe() const {
  const char* what = fds_.empty()
                         ? (buffers_.empty() ? "" : ", buffers registered")
                         : (buffers_.empty() ? ", files registered" : ", files and buffers registered");
  return fmt::format("io_uring{}", what);
}

}  // namespace moraine
