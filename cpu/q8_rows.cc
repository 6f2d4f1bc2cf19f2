#include "cpu/q8_rows.h"

#include <memory>

namespace moraine {
namespace {

constexpr int64_t kLine = 64;

int64_t Lines(int64_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

}  // namespace

int64_t Q8Rows::BytesPerRow(int64_t columns) {
  const int64_t padded = PaddedColumns(columns);
  return padded + 2 * Lines(padded / kQ8Block * static_cast<int64_t>(sizeof(float)));
}

Q8Rows::Q8Rows(int64_t rows, int64_t columns)
    : memory_(static_cast<size_t>(rows * BytesPerRow(columns) + kLine)) {
  const int64_t padded = PaddedColumns(columns);
  const int64_t floats = Lines(padded / kQ8Block * static_cast<int64_t>(sizeof(float)));
  void* first = memory_.data();
  size_t space = memory_.size();
  std::align(static_cast<size_t>(kLine), 1, first, space);
  for (int64_t row = 0; row < rows; ++row) {
    auto* at = static_cast<std::byte*>(first) + row * BytesPerRow(columns);
    rows_.push_back({reinterpret_cast<int8_t*>(at), reinterpret_cast<float*>(at + padded),
                     reinterpret_cast<float*>(at + padded + floats)});
  }
}

}  // namespace moraine
