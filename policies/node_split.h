// How rows are cut into one slice a NUMA node.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace moraine {

/// Slices begin at multiples of this: a scale block of FP8, and whole blocks of quantised activations.
inline constexpr int64_t kNodeSliceRows = 128;

/// Boundaries of `rows` for nodes with `workers` each (all > 0): node n takes [result[n], result[n + 1]), in
/// proportion to its workers, cut at multiples of kNodeSliceRows. The first boundary is 0, the last `rows`; where
/// there are fewer multiples than nodes, the last nodes get none.
std::vector<int64_t> SplitRows(int64_t rows, std::span<const int> workers);

}  // namespace moraine
