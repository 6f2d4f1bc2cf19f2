// The yardstick of everything that is bound by memory: how fast its workers can read it at all.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "cpu/worker_pool.h"

namespace moraine::tools {

/// Seconds of a clock that only goes forward.
double Seconds();
/// The middle value of some (at least one).
double Median(std::vector<double> values);

/// Bytes a second at which all workers together read `memory` (2 MiB or more, larger than the caches), for
/// about `seconds`, in pieces that follow one another. Blocks.
double ReadBandwidth(WorkerPool& pool, std::span<const std::byte> memory, double seconds);
/// The same where every node's workers read memory of their own, `memory[node]`: bytes a second of all.
double ReadBandwidth(WorkerPool& pool, std::span<const std::span<const std::byte>> memory, double seconds);

}  // namespace moraine::tools
