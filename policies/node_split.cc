#include "policies/node_split.h"

#include <algorithm>
#include <numeric>

#include "runtime/core/check.h"

namespace moraine {

std::vector<int64_t> SplitRows(int64_t rows, std::span<const int> workers) {
  const int64_t all = std::accumulate(workers.begin(), workers.end(), int64_t{0});
  MORAINE_CHECK(all > 0);
  const int64_t units = (rows + kNodeSliceRows - 1) / kNodeSliceRows;
  std::vector<int64_t> boundaries = {0};
  int64_t before = 0;
  for (const int count : workers) {
    before += count;
    // Rounded up, so that the first node has something to do.
    boundaries.push_back(std::min(rows, (units * before + all - 1) / all * kNodeSliceRows));
  }
  return boundaries;
}

}  // namespace moraine
