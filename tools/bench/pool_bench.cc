#include "tools/bench/pool_bench.h"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "tools/bench/read_bandwidth.h"

namespace moraine::tools {
namespace {

double CpuSeconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

void Sleep(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

void WaitUntil(double then) {
  while (Seconds() < then) __builtin_ia32_pause();
}

}  // namespace

JobTimes MeasureJobs(WorkerPool& pool, int jobs, double gap_us) {
  const int threads = pool.threads();
  std::vector<double> times;
  times.reserve(static_cast<size_t>(jobs));
  for (int i = 0; i < jobs; ++i) {
    alignas(64) std::atomic<int> begun = 0;
    const double start = Seconds();
    pool.ParallelFor(threads, [&](int64_t, int) {
      begun.fetch_add(1, std::memory_order_acq_rel);
      while (begun.load(std::memory_order_acquire) < threads) __builtin_ia32_pause();
    });
    const double end = Seconds();
    times.push_back(1e6 * (end - start));
    WaitUntil(end + 1e-6 * gap_us);
  }
  std::sort(times.begin(), times.end());
  return {.median_us = times[times.size() / 2], .p99_us = times[times.size() * 99 / 100]};
}

double IdleShare(WorkerPool& pool, double seconds) {
  pool.ParallelFor(2 * pool.threads(), [](int64_t, int) {});
  Sleep(0.1);
  const double before = CpuSeconds();
  const double start = Seconds();
  Sleep(seconds);
  return (CpuSeconds() - before) / (Seconds() - start);
}

}  // namespace moraine::tools
