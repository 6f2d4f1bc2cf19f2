// Plain C++ kernels for any format: the reference, and what runs where nothing better is to be had.
#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/kernels/kernels.h"

namespace moraine::scalar {
namespace {

// One decoded row; grows to the widest matrix met and stays, so that a step allocates only once per thread.
std::span<float> RowBuffer(int64_t columns) {
  thread_local std::vector<float> buffer;
  if (buffer.size() < static_cast<size_t>(columns)) buffer.resize(static_cast<size_t>(columns));
  return std::span(buffer).first(static_cast<size_t>(columns));
}

}  // namespace

MORAINE_DOT(Dot) {
  const std::span<float> row = RowBuffer(w.columns);
  for (int64_t r = row_begin; r < row_end; ++r) {
    DecodeRow(w, r, row);
    for (int64_t t = 0; t < n; ++t) {
      double sum = 0;
      for (int64_t c = 0; c < w.columns; ++c) {
        sum += static_cast<double>(row[static_cast<size_t>(c)]) * static_cast<double>(x[t][c]);
      }
      y[t][r] = static_cast<float>(sum);
    }
  }
}

MORAINE_Q8_DOT(Q8Dot) {
  const std::span<float> row = RowBuffer(w.columns);
  const Q8Layout layout = LayoutFor(w.format);
  for (int64_t r = row_begin; r < row_end; ++r) {
    DecodeRow(w, r, row);
    for (int64_t t = 0; t < n; ++t) {
      double sum = 0;
      for (int64_t c = 0; c < w.columns; ++c) {
        const double code = x[t].codes[Q8Place(layout, c)];
        sum += static_cast<double>(row[static_cast<size_t>(c)]) * code *
               static_cast<double>(x[t].scale[c / kQ8Block]);
      }
      y[t][r] = static_cast<float>(sum);
    }
  }
}

MORAINE_TRANSPOSED(Transposed) {
  const std::span<float> row = RowBuffer(w.columns);
  thread_local std::vector<double> sums;
  sums.assign(static_cast<size_t>(w.columns), 0.0);
  for (int64_t r = 0; r < w.rows; ++r) {
    DecodeRow(w, r, row);
    for (size_t c = 0; c < row.size(); ++c)
      sums[c] += static_cast<double>(x[r]) * static_cast<double>(row[c]);
  }
  for (size_t c = 0; c < row.size(); ++c) y[c] = static_cast<float>(sums[c]);
}

MORAINE_QUANTISE(Quantise) {
  const int64_t padded = end < columns ? end : PaddedColumns(columns);
  for (int64_t first = begin; first < padded; first += kQ8Span) {
    float largest = 0.f;
    bool finite = true;
    for (int64_t c = first; c < std::min(first + kQ8Span, end); ++c) {
      largest = std::max(largest, std::fabs(x[c]));
      finite = finite && std::isfinite(x[c]);
    }
    const Q8Scale scale = MakeQ8Scale(largest, finite);
    for (int64_t block = first / kQ8Block; block < (first + kQ8Span) / kQ8Block; ++block) {
      int sum = 0;
      for (int64_t c = block * kQ8Block; c < (block + 1) * kQ8Block; ++c) {
        const int code = c < end && finite ? static_cast<int>(std::nearbyint(x[c] * scale.inverse)) : 0;
        out.codes[Q8Place(layout, c)] = static_cast<int8_t>(code);
        sum += code;
      }
      out.scale[block] = scale.scale;
      out.sum[block] = scale.scale * static_cast<float>(sum);
    }
  }
}

MORAINE_SILU(SiluMultiply) {
  for (int64_t i = 0; i < count; ++i) out[i] = gate[i] / (1.f + std::exp(-gate[i])) * up[i];
}

MORAINE_EXP_SUM(ExpSum) {
  float sum = 0.f;
  for (int64_t i = 0; i < count; ++i) {
    values[i] = std::exp(values[i] - maximum);
    sum += values[i];
  }
  return sum;
}

}  // namespace moraine::scalar
