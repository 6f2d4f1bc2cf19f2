// AVX2 + FMA + F16C kernels: eight weights a vector.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "cpu/kernels/kernels.h"

namespace moraine::avx2 {
namespace {

struct Vec {
  using Reg = __m256;
  static constexpr int64_t kLanes = 8;
  static constexpr int kTile[3] = {1, 2, 4};
  static Reg Zero() { return _mm256_setzero_ps(); }
  static Reg Set1(float value) { return _mm256_set1_ps(value); }
  static Reg Load(const float* at) { return _mm256_loadu_ps(at); }
  static __m256i Mask(int64_t count) {
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lanes);
  }
  static Reg LoadPart(const float* at, int64_t count) { return _mm256_maskload_ps(at, Mask(count)); }
  static void Store(float* at, Reg v) { _mm256_storeu_ps(at, v); }
  static void StorePart(float* at, int64_t count, Reg v) { _mm256_maskstore_ps(at, Mask(count), v); }
  static Reg Add(Reg a, Reg b) { return _mm256_add_ps(a, b); }
  static Reg Fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  static float Sum(Reg v) {
    const __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_shuffle_ps(quarter, quarter, 1)));
  }
};

#include "cpu/kernels/float_format.inc"

__m128i Load8Bytes(const std::byte* at) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)); }
__m128i Load16Bytes(const std::byte* at) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at)); }

// Unsigned codes, one a byte, less their zero.
__m256 FromCodes(__m128i codes, int zero) {
  return _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_cvtepu8_epi32(codes), _mm256_set1_epi32(zero)));
}

struct F32 : Format<F32, 32> {
  static __m256 Decode1(const std::byte* row, int64_t column, int) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(At(row, column)));
  }
};

struct F16 : Format<F16, 16> {
  static __m256 Decode1(const std::byte* row, int64_t column, int) {
    return _mm256_cvtph_ps(Load16Bytes(At(row, column)));
  }
};

struct Bf16 : Format<Bf16, 16> {
  static __m256 Decode1(const std::byte* row, int64_t column, int) {
    const __m256i wide = _mm256_cvtepu16_epi32(Load16Bytes(At(row, column)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
};

// By way of f16, as in avx512.cc and for the same reason.
struct Fp8 : Format<Fp8, 8> {
  static constexpr bool kScaled = true;
  static constexpr float kUnit = 256.f;
  static void Decode(const std::byte* row, int64_t column, int, Vec::Reg (&out)[2]) {
    const __m256i half = AsF16(Load16Bytes(At(row, column)));
    out[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(half));
    out[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1));
  }
  static __m256 Decode1(const std::byte* row, int64_t column, int) {
    return _mm256_cvtph_ps(_mm256_castsi256_si128(AsF16(Load8Bytes(At(row, column)))));
  }
  static __m256i AsF16(__m128i codes) {
    const __m256i half =
        _mm256_and_si256(_mm256_slli_epi16(_mm256_cvtepi8_epi16(codes), 7), _mm256_set1_epi16(-0x4080));
    const __m256i carry = _mm256_add_epi16(half, _mm256_set1_epi16(0x0080));
    return _mm256_or_si256(half, _mm256_and_si256(carry, _mm256_set1_epi16(0x4000)));
  }
};

struct Int8 : Format<Int8, 8> {
  static constexpr bool kScaled = true;
  static constexpr int kMiddle = kInt8Zero;
  static __m256 Decode1(const std::byte* row, int64_t column, int zero) {
    return FromCodes(Load8Bytes(At(row, column)), zero);
  }
};

struct Int4 : Format<Int4, 4> {
  static constexpr bool kScaled = true;
  static constexpr int kMiddle = kInt4Zero;
  static __m256 Decode1(const std::byte* row, int64_t column, int zero) {
    const __m128i pairs = _mm_cvtepu8_epi16(_mm_loadu_si32(At(row, column)));
    const __m128i codes = _mm_and_si128(_mm_or_si128(pairs, _mm_slli_epi16(pairs, 4)), _mm_set1_epi8(0x0F));
    return FromCodes(codes, zero);
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
}  // namespace moraine::avx2
