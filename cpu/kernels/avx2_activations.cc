// AVX2 versions of what stands between products: quantising activations, SiLU, the exponentials of softmax.
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "cpu/kernels/kernels.h"

namespace moraine::avx2 {
namespace {

__m256i Mask(int64_t count) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lanes);
}

// Eight values, zeros behind `count`.
__m256 Load(const float* at, int64_t count) {
  return count >= 8 ? _mm256_loadu_ps(at) : _mm256_maskload_ps(at, Mask(std::max<int64_t>(count, 0)));
}

void Store(float* at, int64_t count, __m256 v) {
  if (count >= 8)
    _mm256_storeu_ps(at, v);
  else
    _mm256_maskstore_ps(at, Mask(count), v);
}

// e^x to about one unit in the last place; below -87.3 the smallest normal, NaN stays NaN. x = n ln 2 + r
// with |r| <= 0.35, e^r by its series to r^7 / 7! (what is left out is below 2^-27).
__m256 Exp(__m256 x) {
  x = _mm256_min_ps(_mm256_set1_ps(88.37f), _mm256_max_ps(_mm256_set1_ps(-87.33f), x));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  // ln 2 in two parts, the first with few bits, so that n times it is exact.
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62ep-1f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.0bfbe8p-15f), r);
  __m256 sum = _mm256_set1_ps(1.f / 5040);
  for (const float factor : {1.f / 720, 1.f / 120, 1.f / 24, 1.f / 6, 0.5f, 1.f, 1.f})
    sum = _mm256_fmadd_ps(sum, r, _mm256_set1_ps(factor));
  const __m256i exponent =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(sum, _mm256_castsi256_ps(exponent));
}

float Lanes(__m256 v, float (*op)(float, float)) {
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, v);
  for (int width = 4; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] = op(lanes[i], lanes[i + width]);
  }
  return lanes[0];
}

int Sum(__m256i v) {
  const __m128i half = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  const __m128i quarter = _mm_add_epi32(half, _mm_unpackhi_epi64(half, half));
  return _mm_cvtsi128_si32(_mm_add_epi32(quarter, _mm_shuffle_epi32(quarter, 1)));
}

// 32 codes in order from four vectors of eight.
__m256i Pack(const __m256i (&codes)[4]) {
  const __m256i packed =
      _mm256_packs_epi16(_mm256_packs_epi32(codes[0], codes[1]), _mm256_packs_epi32(codes[2], codes[3]));
  return _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

void StoreCodes(__m256i codes, int64_t block, Q8Layout layout, int8_t* out) {
  if (layout == Q8Layout::kPlain) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + block * kQ8Block), codes);
    return;
  }
  const __m256i split = _mm256_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15,  //
                                         0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
  const __m256i apart = _mm256_permute4x64_epi64(_mm256_shuffle_epi8(codes, split), 0xD8);
  int8_t* at = out + block * kQ8Block / kQ8Chunk * kQ8Chunk + block % 4 * 16;
  _mm_storeu_si128(reinterpret_cast<__m128i*>(at), _mm256_castsi256_si128(apart));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(at + 64), _mm256_extracti128_si256(apart, 1));
}

// kQ8Span columns, of which `count` are there.
void QuantiseSpan(const float* x, int64_t count, int64_t block, Q8Layout layout, const Q8Row& out) {
  __m256 v[kQ8Span / 8];
  __m256 largest = _mm256_setzero_ps();
  __m256 bad = _mm256_setzero_ps();
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7FFFFFFF));
  for (int64_t k = 0; k < kQ8Span / 8; ++k) {
    v[k] = Load(x + 8 * k, count - 8 * k);
    const __m256 absolute = _mm256_and_ps(v[k], magnitude);
    largest = _mm256_max_ps(largest, absolute);
    const __m256 infinity = _mm256_set1_ps(std::numeric_limits<float>::infinity());
    bad = _mm256_or_ps(bad, _mm256_cmp_ps(absolute, infinity, _CMP_NLT_UQ));
  }
  const Q8Scale scale = MakeQ8Scale(Lanes(largest, [](float a, float b) { return std::max(a, b); }),
                                    _mm256_movemask_ps(bad) == 0);
  if (std::isnan(scale.scale)) std::fill_n(v, kQ8Span / 8, _mm256_setzero_ps());
  for (int64_t part = 0; part < kQ8Span / kQ8Block; ++part) {
    __m256i codes[4];
    __m256i sum = _mm256_setzero_si256();
    for (int64_t k = 0; k < 4; ++k) {
      codes[k] = _mm256_cvtps_epi32(_mm256_mul_ps(v[4 * part + k], _mm256_set1_ps(scale.inverse)));
      sum = _mm256_add_epi32(sum, codes[k]);
    }
    StoreCodes(Pack(codes), block + part, layout, out.codes);
    out.scale[block + part] = scale.scale;
    out.sum[block + part] = scale.scale * static_cast<float>(Sum(sum));
  }
}

}  // namespace

MORAINE_QUANTISE(Quantise) {
  for (int64_t c = begin; c < end; c += kQ8Span)
    QuantiseSpan(x + c, std::min(kQ8Span, end - c), c / kQ8Block, layout, out);
  if (end < columns) return;
  for (int64_t c = (columns + kQ8Span - 1) / kQ8Span * kQ8Span; c < PaddedColumns(columns); c += kQ8Span)
    QuantiseSpan(x, 0, c / kQ8Block, layout, out);
}

MORAINE_SILU(SiluMultiply) {
  const __m256 one = _mm256_set1_ps(1.f);
  for (int64_t i = 0; i < count; i += 8) {
    const __m256 g = Load(gate + i, count - i);
    const __m256 e = Exp(_mm256_sub_ps(_mm256_setzero_ps(), g));
    const __m256 silu = _mm256_div_ps(g, _mm256_add_ps(one, e));
    Store(out + i, count - i, _mm256_mul_ps(silu, Load(up + i, count - i)));
  }
}

MORAINE_EXP_SUM(ExpSum) {
  __m256 sum = _mm256_setzero_ps();
  for (int64_t i = 0; i < count; i += 8) {
    __m256 e = Exp(_mm256_sub_ps(Load(values + i, count - i), _mm256_set1_ps(maximum)));
    if (count - i < 8) e = _mm256_and_ps(e, _mm256_castsi256_ps(Mask(count - i)));
    Store(values + i, count - i, e);
    sum = _mm256_add_ps(sum, e);
  }
  return Lanes(sum, [](float a, float b) { return a + b; });
}

}  // namespace moraine::avx2
