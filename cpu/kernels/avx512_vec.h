// Vectors of sixteen f32, as float_dot.inc takes them.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace moraine::avx512_vec {

struct Vec {
  using Reg = __m512;
  static constexpr int64_t kLanes = 16;
  static constexpr int kTile[3] = {2, 4, 4};
  static Reg Zero() { return _mm512_setzero_ps(); }
  static Reg Set1(float value) { return _mm512_set1_ps(value); }
  static Reg Load(const float* at) { return _mm512_loadu_ps(at); }
  static __mmask16 Mask(int64_t count) { return static_cast<__mmask16>((1u << count) - 1); }
  static Reg LoadPart(const float* at, int64_t count) { return _mm512_maskz_loadu_ps(Mask(count), at); }
  static void Store(float* at, Reg v) { _mm512_storeu_ps(at, v); }
  static void StorePart(float* at, int64_t count, Reg v) { _mm512_mask_storeu_ps(at, Mask(count), v); }
  static Reg Add(Reg a, Reg b) { return _mm512_add_ps(a, b); }
  static Reg Fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  static float Sum(Reg v) { return _mm512_reduce_add_ps(v); }
};

}  // namespace moraine::avx512_vec
