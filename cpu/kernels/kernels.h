// The kernels by ISA; contracts of the function types are in cpu/kernel_table.h.
#pragma once

#include <cstdint>

#include "cpu/q8_rows.h"
#include "runtime/core/mat_view.h"

#define MORAINE_DOT(name)                                                                           \
  void name(const MatView& w, int64_t row_begin, int64_t row_end, const float* const* x, int64_t n, \
            float* const* y) noexcept
#define MORAINE_Q8_DOT(name)                                                                 \
  void name(const MatView& w, int64_t row_begin, int64_t row_end, const Q8Row* x, int64_t n, \
            float* const* y) noexcept
#define MORAINE_TRANSPOSED(name) void name(const MatView& w, const float* x, float* y) noexcept
#define MORAINE_QUANTISE(name)                                                            \
  void name(const float* x, int64_t columns, int64_t begin, int64_t end, Q8Layout layout, \
            const Q8Row& out) noexcept
#define MORAINE_SILU(name) void name(const float* gate, const float* up, int64_t count, float* out) noexcept
#define MORAINE_EXP_SUM(name) float name(float* values, int64_t count, float maximum) noexcept

// Products of every format with f32 activations.
#define MORAINE_FLOAT_KERNELS_OF_ISA  \
  MORAINE_DOT(DotF32);                \
  MORAINE_DOT(DotF16);                \
  MORAINE_DOT(DotBf16);               \
  MORAINE_DOT(DotFp8);                \
  MORAINE_DOT(DotInt8);               \
  MORAINE_DOT(DotInt4);               \
  MORAINE_TRANSPOSED(TransposedF32);  \
  MORAINE_TRANSPOSED(TransposedF16);  \
  MORAINE_TRANSPOSED(TransposedBf16); \
  MORAINE_TRANSPOSED(TransposedFp8);  \
  MORAINE_TRANSPOSED(TransposedInt8); \
  MORAINE_TRANSPOSED(TransposedInt4)

namespace moraine::scalar {
// Any format; sums in double: the reference of every other row.
MORAINE_DOT(Dot);
MORAINE_Q8_DOT(Q8Dot);
MORAINE_TRANSPOSED(Transposed);
MORAINE_QUANTISE(Quantise);
MORAINE_SILU(SiluMultiply);
MORAINE_EXP_SUM(ExpSum);
}  // namespace moraine::scalar

namespace moraine::avx2 {
MORAINE_FLOAT_KERNELS_OF_ISA;
MORAINE_Q8_DOT(Q8DotInt8);
MORAINE_Q8_DOT(Q8DotInt4);
MORAINE_QUANTISE(Quantise);
MORAINE_SILU(SiluMultiply);
MORAINE_EXP_SUM(ExpSum);
}  // namespace moraine::avx2

namespace moraine::avx512 {
MORAINE_FLOAT_KERNELS_OF_ISA;
MORAINE_Q8_DOT(Q8DotInt8);
MORAINE_Q8_DOT(Q8DotInt4);
}  // namespace moraine::avx512

namespace moraine::avx512vbmi {
MORAINE_DOT(DotFp8);
MORAINE_TRANSPOSED(TransposedFp8);
}  // namespace moraine::avx512vbmi

namespace moraine::avx512vnni {
MORAINE_Q8_DOT(Q8DotInt8);
MORAINE_Q8_DOT(Q8DotInt4);
}  // namespace moraine::avx512vnni

namespace moraine::amx {
MORAINE_DOT(DotFp8);
MORAINE_DOT(DotBf16);
MORAINE_Q8_DOT(Q8TileInt8);
MORAINE_Q8_DOT(Q8TileInt4);
}  // namespace moraine::amx

#undef MORAINE_FLOAT_KERNELS_OF_ISA
