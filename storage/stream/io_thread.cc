#include "storage/stream/io_thread.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>

namespace moraine {
namespace {

// sched_setattr(2)'s first version, for which glibc 2.36 has no declaration.
struct SchedulingAttributes {
  uint32_t size;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime;  // of a fair policy: the slice, in ns
  uint64_t deadline;
  uint64_t period;
};

// Shorter than that of a thread that computes (1.5 ms and more), long enough to fill a drive's queue in one
// go: with 0.1 ms it is cut short in the middle and waits for the next tick.
constexpr uint64_t kSliceNs = 500'000;

}  // namespace

void AskForShortSlices() {
  SchedulingAttributes now{};
  if (::syscall(SYS_sched_getattr, 0, &now, sizeof now, 0) != 0) return;
  now.size = sizeof now;
  now.runtime = kSliceNs;
  ::syscall(SYS_sched_setattr, 0, &now, 0);
}

double ThreadCpuSeconds(std::thread& thread) {
  clockid_t clock{};
  timespec time{};
  if (::pthread_getcpuclockid(thread.native_handle(), &clock) != 0) return 0;
  if (::clock_gettime(clock, &time) != 0) return 0;
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace moraine
