// What a step pays for having workers at all: waking them, waiting for them, and what they use when idle.
#pragma once

#include "cpu/worker_pool.h"

namespace moraine::tools {

/// Microseconds of one job with a task for each worker, every one of which waits until all have begun: from
/// the caller's call to its return, so wake-up and barrier of every worker and nothing else.
struct JobTimes {
  double median_us = 0;
  double p99_us = 0;
};

/// `jobs` of them, each `gap_us` after the one before: in a step gaps are short and workers still spin, after
/// a longer one they sleep in the kernel. Blocks.
JobTimes MeasureJobs(WorkerPool& pool, int jobs, double gap_us);

/// Share of one processor that the whole process used over `seconds` of doing nothing, which begin a tenth of
/// a second after the pool's last job. Blocks.
double IdleShare(WorkerPool& pool, double seconds);

}  // namespace moraine::tools
