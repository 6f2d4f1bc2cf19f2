// AVX2 integer kernels.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "cpu/kernels/kernels.h"

namespace moraine::avx2 {
namespace {

__m128i Load16(const void* at) { return _mm_loadu_si128(static_cast<const __m128i*>(at)); }

struct Q8 {
  using Reg = __m256;
  static constexpr int64_t kLanes = 8;
  static Reg Zero() { return _mm256_setzero_ps(); }
  static Reg Load(const float* at) { return _mm256_loadu_ps(at); }
  static Reg Fma(Reg a, Reg b, Reg c) { return _mm256_fmadd_ps(a, b, c); }
  static float Sum(Reg v) {
    const __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_shuffle_ps(quarter, quarter, 1)));
  }
  static void Store(float* at, Reg v) { _mm256_storeu_ps(at, v); }
  static Reg Multiply(Reg a, Reg b) { return _mm256_mul_ps(a, b); }
  static void F16ToFloat(const std::byte* from, float* to, int64_t count) {
    int64_t i = 0;
    for (; i + 8 <= count; i += 8) Store(to + i, _mm256_cvtph_ps(Load16(from + 2 * i)));
    for (; i < count; ++i) to[i] = DecodeScale(ScaleType::kF16, from + 2 * i);
  }
  static void Bf16ToFloat(const std::byte* from, float* to, int64_t count) {
    int64_t i = 0;
    for (; i + 8 <= count; i += 8) {
      const __m256i wide = _mm256_slli_epi32(_mm256_cvtepu16_epi32(Load16(from + 2 * i)), 16);
      Store(to + i, _mm256_castsi256_ps(wide));
    }
    for (; i < count; ++i) to[i] = DecodeScale(ScaleType::kBf16, from + 2 * i);
  }
  static Reg Twice(const float* from) {
    const __m256i lanes = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(from)), lanes);
  }
  static Reg FourTimes(const float* from) {
    const __m256i lanes = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1);
    return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(from)), lanes);
  }
};

__m256i Load32(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }
__m256i Wide(const void* at) { return _mm256_cvtepi8_epi16(Load16(at)); }

// 16-bit products of one block of 32 columns: u8 x s8 in pairs would saturate.
struct Int8 {
  static constexpr int kBits = 8;
  static constexpr int kMiddle = kInt8Zero;
  static constexpr int kSteps = 4;
  struct Weights {
    __m256i first;
    __m256i second;
  };
  static Weights Load(const std::byte* chunk, int step) {
    const auto* at = reinterpret_cast<const __m128i*>(chunk + 32 * step);
    return {_mm256_cvtepu8_epi16(_mm_loadu_si128(at)), _mm256_cvtepu8_epi16(_mm_loadu_si128(at + 1))};
  }
  static __m256 Dot(const Weights& w, const int8_t* codes, int step) {
    return _mm256_cvtepi32_ps(_mm256_add_epi32(_mm256_madd_epi16(w.first, Wide(codes + 32 * step)),
                                               _mm256_madd_epi16(w.second, Wide(codes + 32 * step + 16))));
  }
  static __m256 Scale(const float* scales, int step) { return _mm256_broadcast_ss(scales + step); }
};

// A step is 64 columns: byte i of its 32 holds columns 2 i and 2 i + 1; lane l is made of columns 8 l .. 8 l
// + 7.
struct Int4 {
  static constexpr int kBits = 4;
  static constexpr int kMiddle = kInt4Zero;
  static constexpr int kSteps = 2;
  struct Weights {
    __m256i low;
    __m256i high;
  };
  static Weights Load(const std::byte* chunk, int step) {
    const __m256i bytes = Load32(chunk + 32 * step);
    const __m256i mask = _mm256_set1_epi8(0x0F);
    return {_mm256_and_si256(bytes, mask), _mm256_and_si256(_mm256_srli_epi16(bytes, 4), mask)};
  }
  static __m256 Dot(const Weights& w, const int8_t* codes, int step) {
    // At most 4 x 15 x 127: no saturation.
    const __m256i sums = _mm256_add_epi16(_mm256_maddubs_epi16(w.low, Load32(codes + 32 * step)),
                                          _mm256_maddubs_epi16(w.high, Load32(codes + 64 + 32 * step)));
    return _mm256_cvtepi32_ps(_mm256_madd_epi16(sums, _mm256_set1_epi16(1)));
  }
  static __m256 Scale(const float* scales, int step) { return Q8::FourTimes(scales + 2 * step); }
};

}  // namespace

#include "cpu/kernels/q8_dot.inc"
}  // namespace moraine::avx2
