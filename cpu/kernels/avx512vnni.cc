// AVX-512 VNNI integer kernels: four products and their sum in one instruction, without saturation.
#include <algorithm>
#include <cstring>

#include "cpu/kernels/avx512_q8.inc"
#include "cpu/kernels/kernels.h"

namespace moraine::avx512vnni {
namespace {

using avx512_q8::Q8;

struct Int8 {
  static constexpr int kBits = 8;
  static constexpr int kMiddle = kInt8Zero;
  static constexpr int kSteps = 2;
  static __m512i Load(const std::byte* chunk, int step) { return avx512_q8::Load64(chunk + 64 * step); }
  static __m512 Dot(__m512i weights, const int8_t* codes, int step) {
    return _mm512_cvtepi32_ps(
        _mm512_dpbusd_epi32(_mm512_setzero_si512(), weights, avx512_q8::Load64(codes + 64 * step)));
  }
  static __m512 Scale(const float* scales, int step) { return avx512_q8::TwoBlocks(scales + 2 * step); }
};

struct Int4 {
  static constexpr int kBits = 4;
  static constexpr int kMiddle = kInt4Zero;
  static constexpr int kSteps = 1;
  static avx512_q8::Pairs Load(const std::byte* chunk, int) { return avx512_q8::SplitPairs(chunk); }
  static __m512 Dot(const avx512_q8::Pairs& w, const int8_t* codes, int) {
    const __m512i even = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w.low, avx512_q8::Load64(codes));
    return _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(even, w.high, avx512_q8::Load64(codes + 64)));
  }
  static __m512 Scale(const float* scales, int) { return Q8::FourTimes(scales); }
};

}  // namespace

#include "cpu/kernels/q8_dot.inc"
}  // namespace moraine::avx512vnni
