// AVX-512 (F, BW, DQ, VL) kernels: sixteen weights a vector.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "cpu/kernels/avx512_vec.inc"
#include "cpu/kernels/kernels.h"

namespace moraine::avx512 {
namespace {

using avx512_vec::Vec;

#include "cpu/kernels/float_format.inc"

struct F32 : Format<F32, 32> {
  static __m512 Decode1(const std::byte* row, int64_t column, int) {
    return _mm512_loadu_ps(At(row, column));
  }
};

struct F16 : Format<F16, 16> {
  static __m512 Decode1(const std::byte* row, int64_t column, int) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(At(row, column))));
  }
};

struct Bf16 : Format<Bf16, 16> {
  static __m512 Decode1(const std::byte* row, int64_t column, int) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(At(row, column)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
};

// e4m3 becomes f16 with the same bits in f16's lower exponent bits, that is the value over 2^8; the way
// through f16 because its conversion takes subnormals at full speed, while f32 arithmetic on subnormals traps
// into microcode (measured on an AVX-512 Xeon: with one weight in a hundred subnormal, a sixth of the speed).
struct Fp8 : Format<Fp8, 8> {
  static constexpr bool kScaled = true;
  static constexpr float kUnit = 256.f;
  static void Decode(const std::byte* row, int64_t column, int, Vec::Reg (&out)[2]) {
    const __m512i half = AsF16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(At(row, column))));
    out[0] = _mm512_cvtph_ps(_mm512_castsi512_si256(half));
    out[1] = _mm512_cvtph_ps(_mm512_extracti64x4_epi64(half, 1));
  }
  static __m512 Decode1(const std::byte* row, int64_t column, int) {
    const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(At(row, column)));
    return _mm512_cvtph_ps(_mm512_castsi512_si256(AsF16(_mm256_castsi128_si256(codes))));
  }
  static __m512i AsF16(__m256i codes) {
    // Sign-extended and shifted: sign in bits 15 and 14, exponent and mantissa in 13..7.
    const __m512i half =
        _mm512_and_si512(_mm512_slli_epi16(_mm512_cvtepi8_epi16(codes), 7), _mm512_set1_epi16(-0x4080));
    // Only the NaN code carries into bit 14, which makes it f16's NaN.
    const __m512i carry = _mm512_add_epi16(half, _mm512_set1_epi16(0x0080));
    constexpr int kAOrBAndC = 0xF8;
    return _mm512_ternarylogic_epi32(half, carry, _mm512_set1_epi16(0x4000), kAOrBAndC);
  }
};

struct Int8 : Format<Int8, 8> {
  static constexpr bool kScaled = true;
  static constexpr int kMiddle = kInt8Zero;
  static __m512 Decode1(const std::byte* row, int64_t column, int zero) {
    const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(At(row, column)));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_cvtepu8_epi32(codes), _mm512_set1_epi32(zero)));
  }
};

struct Int4 : Format<Int4, 4> {
  static constexpr bool kScaled = true;
  static constexpr int kMiddle = kInt4Zero;
  static __m512 Decode1(const std::byte* row, int64_t column, int zero) {
    const __m128i pairs =
        _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(At(row, column))));
    const __m128i codes = _mm_and_si128(_mm_or_si128(pairs, _mm_slli_epi16(pairs, 4)), _mm_set1_epi8(0x0F));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_cvtepu8_epi32(codes), _mm512_set1_epi32(zero)));
  }
};

}  // namespace

#include "cpu/kernels/float_dot.inc"

MORAINE_FLOAT_KERNELS(F32)
MORAINE_FLOAT_KERNELS(F16)
MORAINE_FLOAT_KERNELS(Bf16)
MORAINE_FLOAT_KERNELS(Fp8)
MORAINE_FLOAT_KERNELS(Int8)
MORAINE_FLOAT_KERNELS(Int4)
}  // namespace moraine::avx512
