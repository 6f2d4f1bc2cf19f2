// Rounding a row of weights to symmetric integers with one BF16 scale a group.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace moraine {

/// Quantises `row` in groups of `group` columns (which divides it) to codes of `bits` 4 or 8 as WeightFormat
/// has them, and scales in BF16 (row.size() / group of them). `codes` (zeroed by the caller, at least the
/// row's bytes) and `scales` are written. A code is the nearest one under the scale as stored, ties to even.
///
/// The scale: of 8 bits, the group's largest magnitude over 127. Of 4 bits, the one of nine between a seventh
/// and a ten-and-a-halfth of it that leaves the least squared error: with so few codes, clipping the extremes
/// a little costs less than the coarser steps that keep them. A group of zeros has scale 1.
///
/// Returns false when a value is NaN, infinite, or beyond what BF16 scales reach.
bool QuantiseRow(std::span<const float> row, int bits, int64_t group, std::span<std::byte> codes,
                 std::span<uint16_t> scales);

}  // namespace moraine
