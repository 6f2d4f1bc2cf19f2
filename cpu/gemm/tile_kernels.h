// The steps around a tile's product, by ISA: weights decoded into a tile, activations packed into a panel,
// SiLU between the waves, sums carried out to rows. One table, fastest first, scalar last.
//
// A panel holds `width` rows of a step as the columns of cpu/gemm/tile_gemm.h's B, over all of a matrix's
// columns padded to TileGemm::kDepthUnit with zeros: f32 as [depth][width], bf16 as [depth / 2][width][2].
// Roundings to bf16 are to nearest even of the f32 value: of DecodeRow's value for weights, so a weight is
// off by at most 2^-9 of itself beyond DecodeRow, group and block scales included. (bf16 kernels take
// subnormals of bf16, below 2^-126, for zero, as the hardware's bf16 products do.)
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "cpu/gemm/tile_gemm.h"
#include "runtime/core/mat_view.h"

namespace moraine {

/// Where a tile lies in its matrix: rows [row, row + rows), columns [column, column + columns), decoded into
/// [rows][depth] with zeros from `columns` to `depth`.
struct TilePlace {
  int64_t row = 0;
  int64_t rows = 0;
  int64_t column = 0;
  int64_t columns = 0;
  int64_t depth = 0;
};

/// `tile` is 64-byte aligned and depth a multiple of TileGemm::kDepthUnit.
using DecodeTileFn = void (*)(const MatView& w, const TilePlace& place, std::byte* tile) noexcept;

/// x[t], t in [0, n), each of `columns` values, into a panel; zeros from n to width and below `columns`.
using PackPanelFn = void (*)(const float* const* x, int64_t n, int64_t columns, int64_t width,
                             std::byte* panel) noexcept;

/// silu(gate) up, each f32 [rows][width], into the panel's depth positions [0, rows), `panel` pointing at
/// the first. An odd last row of bf16 gets a zero beside it.
using SiluPanelFn = void (*)(const float* gate, const float* up, int64_t rows, int64_t width,
                             std::byte* panel) noexcept;

/// From c [rows][width]: y[t][r] = c[r][t], or y[t][r] += gains[t] c[r][t] where gains is not null, for t in
/// [0, n) and r in [0, rows).
using StoreTileFn = void (*)(const float* c, int64_t rows, int64_t width, int64_t n, const float* gains,
                             float* const* y) noexcept;

struct TileKernels {
  std::string_view isa;  // "avx512-bf16", "avx2", "scalar"
  GemmType type;
  std::array<DecodeTileFn, kWeightFormats> decode;
  PackPanelFn pack;
  SiluPanelFn silu;
  StoreTileFn store;

  DecodeTileFn Decode(WeightFormat format) const { return decode[static_cast<size_t>(format)]; }
};

/// All that were compiled, and whether this CPU can run one of them.
std::span<const TileKernels* const> AllTileKernels();
bool CpuRuns(const TileKernels& kernels);

/// The best for `type` on this CPU; the scalar ones at worst.
const TileKernels& SelectTileKernels(GemmType type);

}  // namespace moraine
