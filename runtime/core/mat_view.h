// A weight matrix as it lies in memory: borrowed bytes, a format, and where its block scales are.
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/core/check.h"
#include "runtime/core/quant_format.h"

namespace moraine {

/// Row-major [rows, columns], rows `row_bytes` apart, at any byte alignment. y = W x maps `columns` inputs to
/// `rows` outputs. Owns nothing: data, scales and zeros outlive the view.
///
/// Of a scaled format, `scales` is a row-major matrix [ceil(stored rows / block_rows), scale_columns] of
/// `scale_type`, at any alignment, whose entry (r / block_rows, c / block_columns) multiplies weight (r, c).
/// Integer formats have block_rows 1 and block_columns the group (32, 64, 128, or all columns); `zeros` has
/// the same shape in bytes, or is null where every zero is the format's own (kInt8Zero, kInt4Zero). A view of
/// some rows remembers in first_row where it starts, so a slice may begin inside a block.
struct MatView {
  const std::byte* data = nullptr;
  WeightFormat format = WeightFormat::kF32;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t row_bytes = 0;
  const std::byte* scales = nullptr;
  ScaleType scale_type = ScaleType::kF32;
  int64_t scale_columns = 0;
  int32_t block_rows = 0;
  int32_t block_columns = 0;
  const uint8_t* zeros = nullptr;
  int64_t first_row = 0;

  const std::byte* Row(int64_t row) const { return data + row * row_bytes; }

  /// The scales of the blocks that row `row` crosses; null when the format has none.
  const std::byte* RowScales(int64_t row) const {
    return scales == nullptr ? nullptr : scales + ScaleRow(row) * scale_columns * ScaleBytes(scale_type);
  }
  /// Its zeros; null when all are the format's own.
  const uint8_t* RowZeros(int64_t row) const {
    return zeros == nullptr ? nullptr : zeros + ScaleRow(row) * scale_columns;
  }

  /// Rows [begin, end) of this matrix.
  MatView Rows(int64_t begin, int64_t end) const {
    MORAINE_CHECK(0 <= begin && begin <= end && end <= rows);
    MatView slice = *this;
    slice.data = data + begin * row_bytes;
    slice.rows = end - begin;
    slice.first_row = first_row + begin;
    return slice;
  }

 private:
  int64_t ScaleRow(int64_t row) const { return (first_row + row) / block_rows; }
};

}  // namespace moraine
