// The tile kernels by ISA; contracts in cpu/gemm/tile_kernels.h.
#pragma once

#include "cpu/gemm/tile_kernels.h"

namespace moraine::scalar {
extern const TileKernels kTileF32;
extern const TileKernels kTileBf16;
}  // namespace moraine::scalar

namespace moraine::avx2 {
extern const TileKernels kTileF32;
}  // namespace moraine::avx2

namespace moraine::avx512 {
// Needs F, BW, VL, DQ, VBMI and BF16.
extern const TileKernels kTileBf16;
}  // namespace moraine::avx512
