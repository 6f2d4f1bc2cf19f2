// From how many rows on the tiles of many rows are faster than the kernels of few.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace moraine::tools {

struct SwitchOver {
  struct Point {
    int32_t rows = 0;
    double kernel_us = 0;  // medians of the rounds, one side and the other in turn
    double tile_us = 0;
  };
  std::vector<Point> points;  // ascending
  /// The fewest measured rows from which on tiles took no longer at any; empty when they never did.
  std::optional<int32_t> rows;
};

/// Seconds of a layer of `rows` rows an expert, measured for a moment.
using LayerSeconds = std::function<double(int32_t rows)>;

/// Measures at 1 to 32 rows. Blocking.
SwitchOver MeasureSwitchOver(const LayerSeconds& kernel, const LayerSeconds& tile, int rounds);

}  // namespace moraine::tools
