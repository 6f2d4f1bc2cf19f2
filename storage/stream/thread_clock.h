// CPU time of one thread, read from another.
#pragma once

#include <pthread.h>
#include <time.h>

#include <thread>

namespace moraine {

/// Seconds of CPU `thread` has used, 0 when the system does not say.
inline double ThreadCpuSeconds(std::thread& thread) {
  clockid_t clock{};
  timespec time{};
  if (::pthread_getcpuclockid(thread.native_handle(), &clock) != 0) return 0;
  if (::clock_gettime(clock, &time) != 0) return 0;
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

}  // namespace moraine
