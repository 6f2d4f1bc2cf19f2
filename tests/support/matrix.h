// Random weight matrices in any format, with their own memory.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "runtime/core/mat_view.h"
#include "runtime/core/quant_format.h"

namespace moraine::test {

struct MatrixOptions {
  int32_t block = 128;  // of a scaled format: rows and columns of FP8 blocks, the group of integers
  ScaleType scale_type = ScaleType::kF32;
  bool zeros = false;  // integer formats: a zero for each group
};

/// A matrix whose bytes, scales and zeros start at odd addresses, as a slot filled from a file may. Weights
/// are about normal with deviation 1.
struct Matrix {
  Matrix(WeightFormat format, int64_t rows, int64_t columns, uint32_t seed, const MatrixOptions& options = {})
      : bytes(static_cast<size_t>(rows * RowBytes(format, columns) + 1)) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    view = {.data = bytes.data() + 1,
            .format = format,
            .rows = rows,
            .columns = columns,
            .row_bytes = RowBytes(format, columns)};
    if (Describe(format).scaled) {
      view.block_rows = IsInteger(format) ? 1 : options.block;
      view.block_columns = options.block;
      view.scale_type = options.scale_type;
      view.scale_columns = (columns + options.block - 1) / options.block;
      const int64_t count = (rows + view.block_rows - 1) / view.block_rows * view.scale_columns;
      scales.resize(static_cast<size_t>(count * ScaleBytes(options.scale_type) + 1));
      view.scales = scales.data() + 1;
      const float unit = format == WeightFormat::kInt4Group ? 1.f / 3 : 1.f / 64;
      for (int64_t i = 0; i < count; ++i) PutScale(i, std::exp(0.5f * normal(random)) * unit);
      if (options.zeros) {
        zeros.push_back(0);
        const int range = format == WeightFormat::kInt4Group ? 16 : 256;
        for (int64_t i = 0; i < count; ++i) zeros.push_back(static_cast<uint8_t>(random() % range));
        view.zeros = zeros.data() + 1;
      }
    }
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) Put(r, c, normal(random));
    }
  }
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;

  /// Stores `value`, before its scale, as the nearest code of the format.
  void Put(int64_t row, int64_t column, float value) {
    std::byte* at = bytes.data() + 1 + row * view.row_bytes;
    const auto store = [&](auto bits, int64_t offset) { std::memcpy(at + offset, &bits, sizeof bits); };
    const auto code = [&](float unit, int middle) {
      return static_cast<uint8_t>(
          std::clamp(static_cast<int>(std::lrint(value * unit)) + middle, 0, 2 * middle - 1));
    };
    switch (view.format) {
      case WeightFormat::kF32:
        store(value, 4 * column);
        break;
      case WeightFormat::kF16:
        store(F32ToF16(value), 2 * column);
        break;
      case WeightFormat::kBf16:
        store(F32ToBf16(value), 2 * column);
        break;
      case WeightFormat::kFp8E4M3Block:
        store(F32ToFp8E4M3(value * 64.f), column);
        break;
      case WeightFormat::kInt8Group:
        store(code(64.f, kInt8Zero), column);
        break;
      case WeightFormat::kInt4Group: {
        std::byte& byte = at[column / 2];
        const bool high = column % 2 != 0;
        byte = (byte & std::byte(high ? 0x0F : 0xF0)) | std::byte(code(3.f, kInt4Zero) << (high ? 4 : 0));
        break;
      }
    }
  }

  std::vector<std::byte> bytes;
  std::vector<std::byte> scales;
  std::vector<uint8_t> zeros;
  MatView view;

 private:
  void PutScale(int64_t index, float value) {
    std::byte* at = scales.data() + 1 + index * ScaleBytes(view.scale_type);
    if (view.scale_type == ScaleType::kF32) {
      std::memcpy(at, &value, sizeof value);
    } else {
      const uint16_t bits = view.scale_type == ScaleType::kF16 ? F32ToF16(value) : F32ToBf16(value);
      std::memcpy(at, &bits, sizeof bits);
    }
  }
};

/// W x in double, from the weights that DecodeRow gives.
inline std::vector<double> Product(const MatView& w, const std::vector<double>& x) {
  std::vector<float> row(static_cast<size_t>(w.columns));
  std::vector<double> y;
  for (int64_t r = 0; r < w.rows; ++r) {
    DecodeRow(w, r, row);
    double sum = 0;
    for (size_t c = 0; c < row.size(); ++c) sum += static_cast<double>(row[c]) * x[c];
    y.push_back(sum);
  }
  return y;
}

inline std::vector<float> RandomVector(int64_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(size));
  for (float& value : values) value = normal(random);
  return values;
}

}  // namespace moraine::test
