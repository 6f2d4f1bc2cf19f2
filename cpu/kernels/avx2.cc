// AVX2 + FMA + F16C kernels: weights are decoded eight at a time in registers and multiplied at once.
//
// A row's columns are cut into segments: the format's scale block, at most kSegment. Within a segment four
// accumulators of eight lanes take columns in turn; a segment's sum times its scale is added to the row's
// running total. That order is the same whether weights are decoded beside the multiply (one or two rows of
// x) or first into a buffer (more rows).
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "cpu/kernels/kernels.h"

namespace moraine::avx2 {
namespace {

constexpr int64_t kSegment = 512;
// Rows of x whose running totals fit beside the buffer in L1: 64 x 32 B.
constexpr int64_t kTile = 64;

struct F32 {
  static constexpr int64_t kBytes = 4;
  static __m256 Load8(const std::byte* at) { return _mm256_loadu_ps(reinterpret_cast<const float*>(at)); }
};

struct F16 {
  static constexpr int64_t kBytes = 2;
  static __m256 Load8(const std::byte* at) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  }
};

struct Bf16 {
  static constexpr int64_t kBytes = 2;
  static __m256 Load8(const std::byte* at) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
};

struct Fp8 {
  static constexpr int64_t kBytes = 1;
  static __m256 Load8(const std::byte* at) {
    const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)));
    const __m256i magnitude = _mm256_and_si256(wide, _mm256_set1_epi32(0x7F));
    const __m256i sign = _mm256_slli_epi32(_mm256_and_si256(wide, _mm256_set1_epi32(0x80)), 24);
    // Exponent and mantissa land on f32's; 2^120 moves bias 127 to 7, subnormals included. 0x7F alone is NaN.
    const __m256i nan = _mm256_cmpeq_epi32(magnitude, _mm256_set1_epi32(0x7F));
    const __m256 value =
        _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(magnitude, 20)), _mm256_set1_ps(0x1p120f));
    return _mm256_or_ps(value, _mm256_castsi256_ps(_mm256_or_si256(sign, nan)));
  }
};

// The last 1 to 7 weights of a segment, zeros behind them; never reads past the row.
template <typename Format>
__m256 LoadTail(const std::byte* at, int64_t count) {
  alignas(32) std::byte buffer[32] = {};
  std::memcpy(buffer, at, static_cast<size_t>(count * Format::kBytes));
  return Format::Load8(buffer);
}

__m256i TailMask(int64_t count) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lanes);
}

// Sum over one segment of `count` columns for N rows of x; w points at the segment's first weight.
template <typename Format, int N>
void SegmentDot(const std::byte* w, int64_t count, const float* const (&x)[N], __m256 (&sum)[N]) {
  __m256 acc[N][4];
  for (int t = 0; t < N; ++t) {
    for (__m256& lane : acc[t]) lane = _mm256_setzero_ps();
  }
  int64_t c = 0;
  for (; c + 32 <= count; c += 32) {
    for (int k = 0; k < 4; ++k) {
      const __m256 weights = Format::Load8(w + (c + 8 * k) * Format::kBytes);
      for (int t = 0; t < N; ++t)
        acc[t][k] = _mm256_fmadd_ps(weights, _mm256_loadu_ps(x[t] + c + 8 * k), acc[t][k]);
    }
  }
  for (int k = 0; c + 8 <= count; c += 8, ++k) {
    const __m256 weights = Format::Load8(w + c * Format::kBytes);
    for (int t = 0; t < N; ++t) acc[t][k] = _mm256_fmadd_ps(weights, _mm256_loadu_ps(x[t] + c), acc[t][k]);
  }
  if (c < count) {
    const __m256 weights = LoadTail<Format>(w + c * Format::kBytes, count - c);
    const __m256i mask = TailMask(count - c);
    for (int t = 0; t < N; ++t)
      acc[t][3] = _mm256_fmadd_ps(weights, _mm256_maskload_ps(x[t] + c, mask), acc[t][3]);
  }
  for (int t = 0; t < N; ++t) {
    sum[t] = _mm256_add_ps(_mm256_add_ps(acc[t][0], acc[t][1]), _mm256_add_ps(acc[t][2], acc[t][3]));
  }
}

float HorizontalSum(__m256 v) {
  const __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_shuffle_ps(quarter, quarter, 1)));
}

template <typename Format>
void DecodeSegment(const std::byte* w, int64_t count, float* out) {
  int64_t c = 0;
  for (; c + 8 <= count; c += 8) _mm256_storeu_ps(out + c, Format::Load8(w + c * Format::kBytes));
  if (c < count)
    _mm256_maskstore_ps(out + c, TailMask(count - c), LoadTail<Format>(w + c * Format::kBytes, count - c));
}

// One segment against all rows of x of a tile, two at a time.
template <typename Format>
void SegmentTile(const std::byte* w, int64_t begin, int64_t count, __m256 scale, const float* const* x,
                 int64_t n, __m256* total) {
  int64_t t = 0;
  for (; t + 2 <= n; t += 2) {
    const float* const pair[2] = {x[t] + begin, x[t + 1] + begin};
    __m256 sum[2];
    SegmentDot<Format, 2>(w, count, pair, sum);
    total[t] = _mm256_fmadd_ps(scale, sum[0], total[t]);
    total[t + 1] = _mm256_fmadd_ps(scale, sum[1], total[t + 1]);
  }
  if (t < n) {
    const float* const single[1] = {x[t] + begin};
    __m256 sum[1];
    SegmentDot<Format, 1>(w, count, single, sum);
    total[t] = _mm256_fmadd_ps(scale, sum[0], total[t]);
  }
}

// Calls body(begin, count, scale) for each segment of row r.
template <typename Body>
void ForSegments(const MatView& w, int64_t r, Body&& body) {
  const std::byte* scales = w.RowScales(r);
  const int64_t block = scales == nullptr ? w.columns : w.block_columns;
  for (int64_t from = 0, b = 0; from < w.columns; from += block, ++b) {
    const int64_t to = std::min(from + block, w.columns);
    const float scale =
        scales == nullptr ? 1.f : DecodeScale(w.scale_type, scales + b * ScaleBytes(w.scale_type));
    for (int64_t begin = from; begin < to; begin += kSegment)
      body(begin, std::min(kSegment, to - begin), scale);
  }
}

template <typename Format>
void DotTile(const MatView& w, int64_t r, const float* const* x, int64_t n, float* const* y) {
  __m256 total[kTile];
  for (int64_t t = 0; t < n; ++t) total[t] = _mm256_setzero_ps();
  const std::byte* row = w.Row(r);
  ForSegments(w, r, [&](int64_t begin, int64_t count, float scale) {
    const std::byte* weights = row + begin * Format::kBytes;
    if (n <= 2 || Format::kBytes == 4) {
      SegmentTile<Format>(weights, begin, count, _mm256_set1_ps(scale), x, n, total);
    } else {
      alignas(32) float decoded[kSegment];
      DecodeSegment<Format>(weights, count, decoded);
      SegmentTile<F32>(reinterpret_cast<const std::byte*>(decoded), begin, count, _mm256_set1_ps(scale), x, n,
                       total);
    }
  });
  for (int64_t t = 0; t < n; ++t) y[t][r] = HorizontalSum(total[t]);
}

template <typename Format>
MORAINE_DOT(Dot) {
  for (int64_t r = row_begin; r < row_end; ++r) {
    for (int64_t t = 0; t < n; t += kTile) DotTile<Format>(w, r, x + t, std::min(kTile, n - t), y + t);
  }
}

// y += gain * (decoded segment).
template <typename Format>
void AddSegment(const std::byte* w, int64_t count, float gain, float* y) {
  const __m256 gains = _mm256_set1_ps(gain);
  int64_t c = 0;
  for (; c + 8 <= count; c += 8) {
    _mm256_storeu_ps(y + c,
                     _mm256_fmadd_ps(gains, Format::Load8(w + c * Format::kBytes), _mm256_loadu_ps(y + c)));
  }
  if (c < count) {
    const __m256i mask = TailMask(count - c);
    const __m256 weights = LoadTail<Format>(w + c * Format::kBytes, count - c);
    _mm256_maskstore_ps(y + c, mask, _mm256_fmadd_ps(gains, weights, _mm256_maskload_ps(y + c, mask)));
  }
}

template <typename Format>
MORAINE_TRANSPOSED(Transposed) {
  std::fill_n(y, w.columns, 0.f);
  for (int64_t r = 0; r < w.rows; ++r) {
    const std::byte* row = w.Row(r);
    ForSegments(w, r, [&](int64_t begin, int64_t count, float scale) {
      AddSegment<Format>(row + begin * Format::kBytes, count, x[r] * scale, y + begin);
    });
  }
}

}  // namespace

MORAINE_DOT(DotF32) { Dot<F32>(w, row_begin, row_end, x, n, y); }
MORAINE_DOT(DotF16) { Dot<F16>(w, row_begin, row_end, x, n, y); }
MORAINE_DOT(DotBf16) { Dot<Bf16>(w, row_begin, row_end, x, n, y); }
MORAINE_DOT(DotFp8) { Dot<Fp8>(w, row_begin, row_end, x, n, y); }
MORAINE_TRANSPOSED(TransposedF32) { Transposed<F32>(w, x, y); }
MORAINE_TRANSPOSED(TransposedF16) { Transposed<F16>(w, x, y); }
MORAINE_TRANSPOSED(TransposedBf16) { Transposed<Bf16>(w, x, y); }
MORAINE_TRANSPOSED(TransposedFp8) { Transposed<Fp8>(w, x, y); }

}  // namespace moraine::avx2
