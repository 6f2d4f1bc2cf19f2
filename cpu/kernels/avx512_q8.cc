// AVX-512 (BW) integer kernels for CPUs without VNNI.
#include "cpu/kernels/avx512_q8.inc"

#include <algorithm>
#include <cstring>

#include "cpu/kernels/kernels.h"

namespace moraine::avx512 {
namespace {

using avx512_q8::Q8;

// 16-bit products of one block of 32 columns: u8 x s8 in pairs would saturate.
struct Int8 {
  static constexpr int kBits = 8;
  static constexpr int kMiddle = kInt8Zero;
  static constexpr int kSteps = 4;
  static __m512i Load(const std::byte* chunk, int step) {
    return _mm512_cvtepu8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(chunk + 32 * step)));
  }
  static __m512 Dot(__m512i weights, const int8_t* codes, int step) {
    const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 32 * step));
    return _mm512_cvtepi32_ps(_mm512_madd_epi16(weights, _mm512_cvtepi8_epi16(x)));
  }
  static __m512 Scale(const float* scales, int step) { return _mm512_set1_ps(scales[step]); }
};

struct Int4 {
  static constexpr int kBits = 4;
  static constexpr int kMiddle = kInt4Zero;
  static constexpr int kSteps = 1;
  static avx512_q8::Pairs Load(const std::byte* chunk, int) { return avx512_q8::SplitPairs(chunk); }
  static __m512 Dot(const avx512_q8::Pairs& w, const int8_t* codes, int) {
    // At most 4 x 15 x 127: no saturation.
    const __m512i sums = _mm512_add_epi16(_mm512_maddubs_epi16(w.low, avx512_q8::Load64(codes)),
                                          _mm512_maddubs_epi16(w.high, avx512_q8::Load64(codes + 64)));
    return _mm512_cvtepi32_ps(_mm512_madd_epi16(sums, _mm512_set1_epi16(1)));
  }
  static __m512 Scale(const float* scales, int) { return Q8::FourTimes(scales); }
};

}  // namespace

#include "cpu/kernels/q8_dot.inc"
}  // namespace moraine::avx512
