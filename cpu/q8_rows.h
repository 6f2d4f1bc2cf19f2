// Activations as int8 with one scale for 128 columns: what the integer kernel rows multiply with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "runtime/core/quant_format.h"

namespace moraine {

inline constexpr int64_t kQ8Span = 128;   // columns that share a scale
inline constexpr int64_t kQ8Block = 32;   // columns a scale is stored for: the smallest group of weights
inline constexpr int64_t kQ8Chunk = 128;  // columns a kernel takes at once; rows are padded to a multiple

/// The order of the codes within a chunk.
enum class Q8Layout : uint8_t {
  kPlain,  // as the columns: for int8 weights
  kPairs,  // the 64 even columns, then the 64 odd ones: for int4 weights, two columns a byte
};
constexpr Q8Layout LayoutFor(WeightFormat format) {
  return format == WeightFormat::kInt4Group ? Q8Layout::kPairs : Q8Layout::kPlain;
}
constexpr int64_t PaddedColumns(int64_t columns) { return (columns + kQ8Chunk - 1) / kQ8Chunk * kQ8Chunk; }

/// Where the code of column `column` lies.
constexpr int64_t Q8Place(Q8Layout layout, int64_t column) {
  if (layout == Q8Layout::kPlain) return column;
  return column / kQ8Chunk * kQ8Chunk + column % kQ8Chunk / 2 + column % 2 * (kQ8Chunk / 2);
}

/// The scale of columns whose largest magnitude is `largest`, and what they are multiplied by to become
/// codes. Columns too small to divide by are taken for zero.
struct Q8Scale {
  float scale;
  float inverse;
};
inline Q8Scale MakeQ8Scale(float largest, bool finite) {
  if (!finite) return {std::numeric_limits<float>::quiet_NaN(), 0.f};
  if (largest < 1e-30f) return {0.f, 0.f};
  return {largest / 127.f, 127.f / largest};
}

/// One row, borrowed: x[c] is about scale[c / 32] * code of c. Codes lie in [-127, 127] and are 0 behind the
/// last column; `sum` holds scale * (sum of the block's codes), which multiplies the weights' zeros. NaN or
/// infinity makes the scale of its columns NaN.
struct Q8Row {
  int8_t* codes;  // [PaddedColumns], 64-byte aligned
  float* scale;   // [PaddedColumns / 32], 64-byte aligned
  float* sum;     // [PaddedColumns / 32], 64-byte aligned
};

/// What a q8-tile row of the kernel table keeps for each thread that calls it, from the first call on;
/// touched only as far as x is wide and has rows.
inline constexpr int64_t kQ8TileBytes = int64_t{1408} << 10;

/// Memory for `rows` such rows of `columns`, taken once, zero at first.
class Q8Rows {
 public:
  Q8Rows() = default;
  Q8Rows(int64_t rows, int64_t columns);

  static int64_t BytesPerRow(int64_t columns);

  const Q8Row* rows() const { return rows_.data(); }
  const Q8Row& operator[](int64_t row) const { return rows_[static_cast<size_t>(row)]; }
  bool empty() const { return rows_.empty(); }

 private:
  std::vector<std::byte> memory_;
  std::vector<Q8Row> rows_;
};

}  // namespace moraine
