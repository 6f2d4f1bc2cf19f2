#include "tools/bench/switch_over.h"

#include <algorithm>

#include "tools/bench/read_bandwidth.h"

namespace moraine::tools {

SwitchOver MeasureSwitchOver(const LayerSeconds& kernel, const LayerSeconds& tile, int rounds) {
  SwitchOver result;
  for (const int32_t rows : {1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32}) {
    std::vector<double> kernels;
    std::vector<double> tiles;
    for (int round = 0; round < rounds; ++round) {
      kernels.push_back(kernel(rows));
      tiles.push_back(tile(rows));
    }
    result.points.push_back({rows, 1e6 * Median(kernels), 1e6 * Median(tiles)});
  }
  for (auto point = result.points.rbegin(); point != result.points.rend(); ++point) {
    if (point->tile_us > point->kernel_us) break;
    result.rows = point->rows;
  }
  return result;
}

}  // namespace moraine::tools
