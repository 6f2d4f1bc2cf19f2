// AVX2 tile kernels for f32 products: eight values at a time.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "cpu/kernels/tile.h"

namespace moraine::avx2 {
namespace {

constexpr int64_t kLanes = 8;

__m256i Mask(int64_t count) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(std::min(count, kLanes))), lanes);
}

// Each format decodes eight weights from an even column; `scale` and `zero` only where it has them.
struct F32 {
  static constexpr int64_t kBits = 32;
  static __m256 Load8(const std::byte* at, __m256, __m256i) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(at));
  }
};
struct F16 {
  static constexpr int64_t kBits = 16;
  static __m256 Load8(const std::byte* at, __m256, __m256i) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
  }
};
struct Bf16 {
  static constexpr int64_t kBits = 16;
  static __m256 Load8(const std::byte* at, __m256, __m256i) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
};
struct Fp8 {
  static constexpr int64_t kBits = 8;
  static __m256 Load8(const std::byte* at, __m256 scale, __m256i) {
    const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)));
    const __m256i magnitude = _mm256_and_si256(wide, _mm256_set1_epi32(0x7F));
    const __m256i sign = _mm256_slli_epi32(_mm256_and_si256(wide, _mm256_set1_epi32(0x80)), 24);
    // Exponent and mantissa land on f32's; 2^120 moves bias 127 to 7, subnormals included. 0x7F alone is NaN.
    const __m256i nan = _mm256_cmpeq_epi32(magnitude, _mm256_set1_epi32(0x7F));
    const __m256 value =
        _mm256_mul_ps(_mm256_castsi256_ps(_mm256_slli_epi32(magnitude, 20)), _mm256_set1_ps(0x1p120f));
    return _mm256_mul_ps(_mm256_or_ps(value, _mm256_castsi256_ps(_mm256_or_si256(sign, nan))), scale);
  }
};
struct Int8 {
  static constexpr int64_t kBits = 8;
  static __m256 Load8(const std::byte* at, __m256 scale, __m256i zero) {
    const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(wide, zero)), scale);
  }
};
struct Int4 {
  static constexpr int64_t kBits = 4;
  static __m256 Load8(const std::byte* at, __m256 scale, __m256i zero) {
    int bits;
    std::memcpy(&bits, at, sizeof bits);
    const __m256i shifts = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    const __m256i wide =
        _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(bits), shifts), _mm256_set1_epi32(0xF));
    return _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(wide, zero)), scale);
  }
};

template <typename Format>
constexpr int kOwnZero = Format::kBits == 4 ? kInt4Zero : kInt8Zero;

// Columns [from, to) of one row, all under one scale, to out[from - origin ...]. An odd start of four-bit
// weights takes one weight from a byte's high half first.
template <typename Format>
void DecodeRun(const std::byte* row, int64_t from, int64_t to, float scale, int zero, float* out) {
  const __m256 scales = _mm256_set1_ps(scale);
  const __m256i zeros = _mm256_set1_epi32(zero);
  int64_t c = from;
  if (Format::kBits == 4 && c % 2 != 0 && c < to) {
    *out++ = static_cast<float>((static_cast<int>(row[c / 2]) >> 4) - zero) * scale;
    ++c;
  }
  for (; c + kLanes <= to; c += kLanes, out += kLanes)
    _mm256_storeu_ps(out, Format::Load8(row + c * Format::kBits / 8, scales, zeros));
  if (c < to) {
    alignas(32) std::byte buffer[32] = {};
    std::memcpy(buffer, row + c * Format::kBits / 8, static_cast<size_t>(((to - c) * Format::kBits + 7) / 8));
    _mm256_maskstore_ps(out, Mask(to - c), Format::Load8(buffer, scales, zeros));
  }
}

template <typename Format>
void Decode(const MatView& w, const TilePlace& place, std::byte* tile) noexcept {
  // Rows are a memory page or more apart: asked for a few ahead, since no prefetcher follows from row to row.
  constexpr int64_t kAhead = 4;
  const int64_t end = place.column + place.columns;
  for (int64_t r = 0; r < place.rows; ++r) {
    float* out = reinterpret_cast<float*>(tile) + r * place.depth;
    const std::byte* row = w.Row(place.row + r);
    if (r + kAhead < place.rows) {
      const std::byte* next = w.Row(place.row + r + kAhead);
      for (int64_t at = place.column * Format::kBits / 8; at < end * Format::kBits / 8; at += 64)
        _mm_prefetch(reinterpret_cast<const char*>(next + at), _MM_HINT_T0);
    }
    const std::byte* scales = w.RowScales(place.row + r);
    const uint8_t* zeros = w.RowZeros(place.row + r);
    const int64_t block = scales == nullptr ? w.columns : w.block_columns;
    for (int64_t from = place.column; from < end;) {
      const int64_t b = from / block;
      const int64_t to = std::min((b + 1) * block, end);
      const float scale =
          scales == nullptr ? 1.f : DecodeScale(w.scale_type, scales + b * ScaleBytes(w.scale_type));
      DecodeRun<Format>(row, from, to, scale, zeros == nullptr ? kOwnZero<Format> : zeros[b],
                        out + (from - place.column));
      from = to;
    }
    std::fill(out + place.columns, out + place.depth, 0.f);
  }
}

void Transpose(__m256 (&v)[8]) {
  __m256 a[8];
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
    a[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
  }
  __m256 b[8];
  for (int i = 0; i < 8; i += 4) {
    b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xEE);
    b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
    v[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
  }
}

void Pack(const float* const* x, int64_t n, int64_t columns, int64_t width, std::byte* panel) noexcept {
  auto* out = reinterpret_cast<float*>(panel);
  const int64_t depth = (columns + TileGemm::kDepthUnit - 1) / TileGemm::kDepthUnit * TileGemm::kDepthUnit;
  for (int64_t t = 0; t < width; t += kLanes) {
    for (int64_t k = 0; k < depth; k += kLanes) {
      __m256 v[8];
      for (int64_t i = 0; i < 8; ++i) {
        v[i] = t + i < n && k < columns ? _mm256_maskload_ps(x[t + i] + k, Mask(columns - k))
                                        : _mm256_setzero_ps();
      }
      Transpose(v);
      for (int64_t i = 0; i < 8; ++i) _mm256_store_ps(out + (k + i) * width + t, v[i]);
    }
  }
}

// e^x for x <= 88, NaN kept: 2^n times a polynomial of the rest (Cephes expf), within 2 units in the last
// place.
__m256 Exp(__m256 x) {
  x = _mm256_max_ps(_mm256_set1_ps(-87.f), _mm256_min_ps(_mm256_set1_ps(88.f), x));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  __m256 p = _mm256_set1_ps(1.9875691500e-4f);
  for (const float c :
       {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(c));
  p = _mm256_add_ps(_mm256_fmadd_ps(_mm256_mul_ps(r, r), p, r), _mm256_set1_ps(1.f));
  const __m256i power =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(p, _mm256_castsi256_ps(power));
}

void Silu(const float* gate, const float* up, int64_t rows, int64_t width, std::byte* panel) noexcept {
  auto* out = reinterpret_cast<float*>(panel);
  const __m256 one = _mm256_set1_ps(1.f);
  for (int64_t i = 0; i < rows * width; i += kLanes) {
    const __m256 g = _mm256_load_ps(gate + i);
    const __m256 silu = _mm256_div_ps(g, _mm256_add_ps(one, Exp(_mm256_sub_ps(_mm256_setzero_ps(), g))));
    _mm256_store_ps(out + i, _mm256_mul_ps(silu, _mm256_load_ps(up + i)));
  }
}

void Store(const float* c, int64_t rows, int64_t width, int64_t n, const float* gains,
           float* const* y) noexcept {
  for (int64_t t = 0; t < n; t += kLanes) {
    for (int64_t r = 0; r < rows; r += kLanes) {
      __m256 v[8];
      for (int64_t i = 0; i < 8; ++i)
        v[i] = r + i < rows ? _mm256_load_ps(c + (r + i) * width + t) : _mm256_setzero_ps();
      Transpose(v);
      const __m256i mask = Mask(rows - r);
      for (int64_t i = 0; i < std::min(kLanes, n - t); ++i) {
        float* at = y[t + i] + r;
        const __m256 value = gains == nullptr ? v[i]
                                              : _mm256_fmadd_ps(_mm256_set1_ps(gains[t + i]), v[i],
                                                                _mm256_maskload_ps(at, mask));
        _mm256_maskstore_ps(at, mask, value);
      }
    }
  }
}

}  // namespace

const TileKernels kTileF32 = {
    "avx2", GemmType::kF32, {Decode<F32>, Decode<F16>, Decode<Bf16>, Decode<Fp8>, Decode<Int8>, Decode<Int4>},
    Pack,   Silu,           Store};

}  // namespace moraine::avx2
