// What the AVX-512 integer kernels share, with and without VNNI.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace moraine::avx512_q8 {

struct Q8 {
  using Reg = __m512;
  static constexpr int64_t kLanes = 16;
  static constexpr int kTokens = 4;
  static Reg Zero() { return _mm512_setzero_ps(); }
  static Reg Load(const float* at) { return _mm512_loadu_ps(at); }
  static Reg Fma(Reg a, Reg b, Reg c) { return _mm512_fmadd_ps(a, b, c); }
  static float Sum(Reg v) { return _mm512_reduce_add_ps(v); }
  static void Store(float* at, Reg v) { _mm512_storeu_ps(at, v); }
  static Reg Multiply(Reg a, Reg b) { return _mm512_mul_ps(a, b); }
  static __mmask16 Part(int64_t count) {
    return static_cast<__mmask16>(count >= 16 ? 0xFFFF : (1 << count) - 1);
  }
  static void F16ToFloat(const std::byte* from, float* to, int64_t count) {
    for (int64_t i = 0; i < count; i += 16) {
      const __m256i halves = _mm256_maskz_loadu_epi16(Part(count - i), from + 2 * i);
      _mm512_mask_storeu_ps(to + i, Part(count - i), _mm512_cvtph_ps(halves));
    }
  }
  static void Bf16ToFloat(const std::byte* from, float* to, int64_t count) {
    for (int64_t i = 0; i < count; i += 16) {
      const __m256i halves = _mm256_maskz_loadu_epi16(Part(count - i), from + 2 * i);
      const __m512i wide = _mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16);
      _mm512_mask_storeu_ps(to + i, Part(count - i), _mm512_castsi512_ps(wide));
    }
  }
  static Reg Twice(const float* from) {
    const __m512i lanes = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_permutexvar_ps(lanes, _mm512_castps256_ps512(_mm256_loadu_ps(from)));
  }
  static Reg FourTimes(const float* from) {
    const __m512i lanes = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    return _mm512_permutexvar_ps(lanes, _mm512_broadcast_f32x4(_mm_loadu_ps(from)));
  }
};

static inline __m512i Load64(const void* at) { return _mm512_loadu_si512(at); }

/// Scales of two blocks, eight lanes each.
static inline __m512 TwoBlocks(const float* scales) {
  const __m512i lanes = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
  const __m128 pair = _mm_castpd_ps(_mm_load_sd(reinterpret_cast<const double*>(scales)));
  return _mm512_permutexvar_ps(lanes, _mm512_broadcast_f32x4(pair));
}

/// 128 columns: byte i holds columns 2 i and 2 i + 1, so `low` meets the even codes and `high` the odd ones;
/// lane l is made of columns 8 l .. 8 l + 7.
struct Pairs {
  __m512i low;
  __m512i high;
};
static inline Pairs SplitPairs(const std::byte* chunk) {
  const __m512i bytes = Load64(chunk);
  const __m512i mask = _mm512_set1_epi8(0x0F);
  return {_mm512_and_si512(bytes, mask), _mm512_and_si512(_mm512_srli_epi16(bytes, 4), mask)};
}

}  // namespace moraine::avx512_q8
