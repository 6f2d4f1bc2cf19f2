// Plain tile kernels for any format: the reference of the others.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "cpu/kernels/tile.h"

namespace moraine::scalar {
namespace {

template <GemmType kType>
void Put(std::byte* at, int64_t index, float value) {
  if constexpr (kType == GemmType::kF32) {
    std::memcpy(at + 4 * index, &value, 4);
  } else {
    const uint16_t bits = F32ToBf16(value);
    std::memcpy(at + 2 * index, &bits, 2);
  }
}

// Index of (depth position, row of the step) in a panel.
template <GemmType kType>
int64_t Place(int64_t k, int64_t t, int64_t width) {
  return kType == GemmType::kF32 ? k * width + t : (k / 2 * width + t) * 2 + k % 2;
}

template <GemmType kType>
void Decode(const MatView& w, const TilePlace& place, std::byte* tile) noexcept {
  thread_local std::vector<float> row;
  row.resize(static_cast<size_t>(w.columns));
  for (int64_t r = 0; r < place.rows; ++r) {
    DecodeRow(w, place.row + r, row);
    for (int64_t c = 0; c < place.depth; ++c) {
      const bool inside = c < place.columns;
      Put<kType>(tile, r * place.depth + c, inside ? row[static_cast<size_t>(place.column + c)] : 0.f);
    }
  }
}

template <GemmType kType>
void Pack(const float* const* x, int64_t n, int64_t columns, int64_t width, std::byte* panel) noexcept {
  const int64_t depth = (columns + TileGemm::kDepthUnit - 1) / TileGemm::kDepthUnit * TileGemm::kDepthUnit;
  for (int64_t k = 0; k < depth; ++k) {
    for (int64_t t = 0; t < width; ++t)
      Put<kType>(panel, Place<kType>(k, t, width), k < columns && t < n ? x[t][k] : 0.f);
  }
}

template <GemmType kType>
void Silu(const float* gate, const float* up, int64_t rows, int64_t width, std::byte* panel) noexcept {
  const int64_t even = kType == GemmType::kBf16 ? (rows + 1) / 2 * 2 : rows;
  for (int64_t r = 0; r < even; ++r) {
    for (int64_t t = 0; t < width; ++t) {
      const float g = r < rows ? gate[r * width + t] : 0.f;
      const float u = r < rows ? up[r * width + t] : 0.f;
      Put<kType>(panel, Place<kType>(r, t, width), g / (1.f + std::exp(-g)) * u);
    }
  }
}

void Store(const float* c, int64_t rows, int64_t width, int64_t n, const float* gains,
           float* const* y) noexcept {
  for (int64_t t = 0; t < n; ++t) {
    for (int64_t r = 0; r < rows; ++r) {
      const float value = c[r * width + t];
      y[t][r] = gains == nullptr ? value : y[t][r] + gains[t] * value;
    }
  }
}

template <GemmType kType>
constexpr TileKernels Kernels() {
  TileKernels kernels{"scalar", kType, {}, Pack<kType>, Silu<kType>, Store};
  kernels.decode.fill(Decode<kType>);
  return kernels;
}

}  // namespace

const TileKernels kTileF32 = Kernels<GemmType::kF32>();
const TileKernels kTileBf16 = Kernels<GemmType::kBf16>();

}  // namespace moraine::scalar
