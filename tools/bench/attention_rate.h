// How fast attention runs at decode, when the cache is long.
#pragma once

#include "cpu/kernel_table.h"
#include "cpu/worker_pool.h"
#include "runtime/core/result.h"

namespace moraine::tools {

/// FLOP/s of one row of R1's attention in absorbed form over 4096 cached positions in BF16, for about
/// `seconds`: scores and weighted sums over latents and rotated parts, 2 S N (2R + P), as moraine counts
/// them. Blocks; takes 50 MB. kDoesNotFit when the system refuses them.
Result<double> AttentionRate(WorkerPool& pool, const KernelSet& kernels, double seconds);

}  // namespace moraine::tools
