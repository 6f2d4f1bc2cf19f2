#include "storage/stored_rows.h"

#include <cstring>

#include "runtime/core/check.h"

namespace moraine {
namespace {

// Signed bytes as the unsigned ones of WeightFormat: 128 more.
void AddHalfRange(std::span<std::byte> bytes) {
  for (std::byte& byte : bytes) byte ^= std::byte{0x80};
}

}  // namespace

StoredTensor RowsOf(const StoredTensor& tensor, int64_t begin, int64_t end) {
  const auto cut = [&](StoredRange& range, int64_t rows_a_line) {
    const int64_t lines = (tensor.rows + rows_a_line - 1) / rows_a_line;
    const int64_t line_bytes = range.bytes / lines;
    if (begin == end) {
      range.bytes = 0;
      return;
    }
    MORAINE_CHECK(begin % rows_a_line == 0);
    range.offset += begin / rows_a_line * line_bytes;
    range.bytes = ((end + rows_a_line - 1) / rows_a_line - begin / rows_a_line) * line_bytes;
  };
  StoredTensor part = tensor;
  part.rows = end - begin;
  cut(part.range, 1);
  if (!part.scales || part.scales->block_rows != 1) return part;
  cut(part.scales->range, 1);
  part.scales->rows = part.rows;
  // Packed zeros lie along rows: a word holds one column of several.
  if (part.zeros)
    cut(*part.zeros, part.zeros->dtype == StoredDtype::kI8 ? 1 : 32 / Describe(part.format).bits);
  return part;
}

int64_t ScaleCount(const StoredTensor& tensor) {
  return tensor.scales ? tensor.scales->rows * tensor.scales->columns : 0;
}

void FinishRows(const StoredTensor& tensor, std::span<std::byte> rows) {
  MORAINE_CHECK_EQ(rows.size(), tensor.range.bytes);
  if (tensor.range.dtype == StoredDtype::kI8) AddHalfRange(rows);
}

void UnpackZeros(const StoredTensor& tensor, std::span<const std::byte> stored, std::span<uint8_t> zeros) {
  MORAINE_CHECK(tensor.zeros && static_cast<int64_t>(zeros.size()) == ScaleCount(tensor));
  MORAINE_CHECK_EQ(stored.size(), tensor.zeros->bytes);
  if (tensor.zeros->dtype == StoredDtype::kI8) {
    if (static_cast<const void*>(zeros.data()) != stored.data())
      std::memcpy(zeros.data(), stored.data(), zeros.size());
    AddHalfRange(std::as_writable_bytes(zeros));
    return;
  }
  // Word w of a column holds rows w n to w n + n - 1, the first in the lowest bits.
  const int bits = Describe(tensor.format).bits;
  const int64_t per_word = 32 / bits;
  const int64_t columns = tensor.scales->columns;
  for (int64_t row = 0; row < tensor.scales->rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      uint32_t word = 0;
      std::memcpy(&word, stored.data() + 4 * (row / per_word * columns + column), sizeof word);
      zeros[static_cast<size_t>(row * columns + column)] =
          static_cast<uint8_t>(word >> (row % per_word * bits) & ((1u << bits) - 1));
    }
  }
}

}  // namespace moraine
