// AVX-512 tile kernels for bf16 products. Scaled formats are looked up: a block's codes, times its scale,
// rounded to bf16, make a table that fits registers.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "cpu/kernels/avx512_transpose.inc"
#include "cpu/kernels/tile.h"

namespace moraine::avx512 {
namespace {

constexpr int64_t kWords = 32;  // bf16 values in a register

// The lowest `count` of 16, 32 or 64 lanes; none for a count below 1.
__mmask16 Mask16(int64_t count) {
  return static_cast<__mmask16>(_bzhi_u32(0xFFFF, static_cast<uint32_t>(std::clamp<int64_t>(count, 0, 16))));
}
__mmask32 Mask32(int64_t count) {
  return _bzhi_u32(0xFFFFFFFFu, static_cast<uint32_t>(std::clamp<int64_t>(count, 0, 32)));
}
__mmask64 Mask64(int64_t count) {
  return _bzhi_u64(~uint64_t{0}, static_cast<uint32_t>(std::clamp<int64_t>(count, 0, 64)));
}

__m512i ToBf16(__m512 low, __m512 high) { return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)); }

float Scale(const MatView& w, const std::byte* scales, int64_t block) {
  if (w.scale_type == ScaleType::kF32) {
    float value;
    std::memcpy(&value, scales + 4 * block, 4);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, scales + 2 * block, 2);
  if (w.scale_type == ScaleType::kBf16) return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(bits << 16)));
  return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
}

// Rows are a memory page or more apart: asked for a few ahead, since no prefetcher follows from row to row.
void PrefetchRow(const MatView& w, const TilePlace& place, int64_t r, int64_t bits) {
  constexpr int64_t kAhead = 4;
  if (r + kAhead >= place.rows) return;
  const auto* row = reinterpret_cast<const char*>(w.Row(place.row + r + kAhead));
  const int64_t end = (place.column + place.columns) * bits / 8;
  for (int64_t at = place.column * bits / 8; at < end; at += 64) _mm_prefetch(row + at, _MM_HINT_T0);
}

// Unscaled formats: body turns up to 32 weights at a byte address into bf16.
struct F32 {
  static constexpr int64_t kBytes = 4;
  static __m512i Load(const std::byte* at, int64_t count) {
    const auto* from = reinterpret_cast<const float*>(at);
    return ToBf16(_mm512_maskz_loadu_ps(Mask16(count), from),
                  _mm512_maskz_loadu_ps(Mask16(count - 16), from + 16));
  }
};
struct F16 {
  static constexpr int64_t kBytes = 2;
  static __m512i Load(const std::byte* at, int64_t count) {
    const __m512i half = _mm512_maskz_loadu_epi16(Mask32(count), at);
    return ToBf16(_mm512_cvtph_ps(_mm512_castsi512_si256(half)),
                  _mm512_cvtph_ps(_mm512_extracti64x4_epi64(half, 1)));
  }
};
struct Bf16 {
  static constexpr int64_t kBytes = 2;
  static __m512i Load(const std::byte* at, int64_t count) {
    return _mm512_maskz_loadu_epi16(Mask32(count), at);
  }
};

template <typename Format>
void DecodePlain(const MatView& w, const TilePlace& place, std::byte* tile) noexcept {
  for (int64_t r = 0; r < place.rows; ++r) {
    PrefetchRow(w, place, r, Format::kBytes * 8);
    const std::byte* from = w.Row(place.row + r) + place.column * Format::kBytes;
    auto* out = reinterpret_cast<uint16_t*>(tile) + r * place.depth;
    for (int64_t c = 0; c < place.depth; c += kWords)
      _mm512_store_si512(out + c, Format::Load(from + c * Format::kBytes, place.columns - c));
  }
}

// FP8: what the 128 magnitudes of a block are in bf16, low and high bytes apart since a byte look-up is the
// one that spans 128 entries.
struct alignas(64) Fp8Table {
  __m512i low[2];
  __m512i high[2];
};

void MakeTable(float scale, Fp8Table* table) {
  const __m512 scales = _mm512_set1_ps(scale);
  for (int half = 0; half < 2; ++half) {
    __m512i bf16[2];
    for (int part = 0; part < 2; ++part) {
      __m512 value[2];
      for (int i = 0; i < 2; ++i) {
        const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        const __m512i code = _mm512_add_epi32(lanes, _mm512_set1_epi32(half * 64 + part * 32 + i * 16));
        // Exponent and mantissa land on f32's; 2^120 moves bias 127 to 7, subnormals included. 0x7F is NaN.
        const __m512 magnitude =
            _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32(code, 20)), _mm512_set1_ps(0x1p120f));
        const __mmask16 nan = _mm512_cmpeq_epi32_mask(code, _mm512_set1_epi32(0x7F));
        value[i] = _mm512_mul_ps(
            _mm512_mask_mov_ps(magnitude, nan, _mm512_castsi512_ps(_mm512_set1_epi32(0x7FC00000))), scales);
      }
      bf16[part] = ToBf16(value[0], value[1]);
    }
    const auto join = [](__m256i a, __m256i b) {
      return _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
    };
    table->low[half] = join(_mm512_cvtepi16_epi8(bf16[0]), _mm512_cvtepi16_epi8(bf16[1]));
    table->high[half] = join(_mm512_cvtepi16_epi8(_mm512_srli_epi16(bf16[0], 8)),
                             _mm512_cvtepi16_epi8(_mm512_srli_epi16(bf16[1], 8)));
  }
}

// `count` weights of one block to bf16.
void LookUp(const std::byte* from, int64_t count, const Fp8Table& table, uint16_t* out) {
  // Eight-byte groups in the order that interleaving within 128-bit lanes turns into the stored one.
  const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
  const __m512i low0 = table.low[0];
  const __m512i low1 = table.low[1];
  const __m512i high0 = table.high[0];
  const __m512i high1 = table.high[1];
  for (int64_t c = 0; c < count; c += 64) {
    const __m512i codes =
        _mm512_permutexvar_epi64(order, _mm512_maskz_loadu_epi8(Mask64(count - c), from + c));
    const __m512i low = _mm512_permutex2var_epi8(low0, codes, low1);
    // (codes & 0x80) ^ table: the sign of a negative scale is in the table.
    const __m512i high =
        _mm512_ternarylogic_epi64(_mm512_permutex2var_epi8(high0, codes, high1), codes, sign, 0x78);
    _mm512_mask_storeu_epi16(out + c, Mask32(count - c), _mm512_unpacklo_epi8(low, high));
    _mm512_mask_storeu_epi16(out + c + 32, Mask32(count - c - 32), _mm512_unpackhi_epi8(low, high));
  }
}

void DecodeFp8(const MatView& w, const TilePlace& place, std::byte* tile) noexcept {
  constexpr int64_t kTables = 16;  // of blocks side by side: 1024 columns need 8, or 9 where one is cut
  Fp8Table tables[kTables];
  const int64_t block = w.block_columns;
  const int64_t end = place.column + place.columns;
  const std::byte* made_for = nullptr;
  int64_t first = 0;  // block of tables[0]
  for (int64_t r = 0; r < place.rows; ++r) {
    PrefetchRow(w, place, r, 8);
    const std::byte* row = w.Row(place.row + r);
    const std::byte* scales = w.RowScales(place.row + r);
    auto* out = reinterpret_cast<uint16_t*>(tile) + r * place.depth;
    for (int64_t c = place.column; c < end;) {
      const int64_t b = c / block;
      const int64_t to = std::min((b + 1) * block, end);
      if (scales != made_for || b < first || b >= first + kTables) {
        made_for = scales;
        first = b;
        const int64_t last = std::min((end + block - 1) / block, first + kTables);
        for (int64_t i = first; i < last; ++i) MakeTable(Scale(w, scales, i), &tables[i - first]);
      }
      LookUp(row + c, to - c, tables[b - first], out + (c - place.column));
      c = to;
    }
    std::fill(out + place.columns, out + place.depth, uint16_t{0});
  }
}

// Columns [from, to) of one row of int8, all under one scale.
void Int8Run(const std::byte* row, int64_t from, int64_t to, float scale, int zero, uint16_t* out) {
  const __m512 scales = _mm512_set1_ps(scale);
  const __m512i zeros = _mm512_set1_epi32(zero);
  for (int64_t c = from; c < to; c += kWords) {
    const __m256i codes = _mm256_maskz_loadu_epi8(Mask32(to - c), row + c);
    const auto value = [&](__m128i part) {
      return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_cvtepu8_epi32(part), zeros)), scales);
    };
    _mm512_mask_storeu_epi16(
        out + (c - from), Mask32(to - c),
        ToBf16(value(_mm256_castsi256_si128(codes)), value(_mm256_extracti128_si256(codes, 1))));
  }
}

// The same of int4: the sixteen values of the group are a table of words. `from` may be odd where groups are.
void Int4Run(const std::byte* row, int64_t from, int64_t to, float scale, int zero, uint16_t* out) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(lanes, _mm512_set1_epi32(zero))),
                                     _mm512_set1_ps(scale));
  const __m512i table = ToBf16(value, value);
  int64_t c = from;
  if (c % 2 != 0 && c < to) {
    alignas(64) uint16_t values[kWords];
    _mm512_store_si512(values, table);
    *out++ = values[static_cast<uint8_t>(row[c / 2]) >> 4];
    ++c;
  }
  for (; c < to; c += kWords, out += kWords) {
    const __m512i bytes = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(Mask16((to - c + 1) / 2), row + c / 2));
    // Low half of a byte to the even word, high half to the odd one; a look-up reads five bits.
    const __m512i codes =
        _mm512_and_si512(_mm512_or_si512(bytes, _mm512_slli_epi32(bytes, 12)), _mm512_set1_epi16(0xF));
    _mm512_mask_storeu_epi16(out, Mask32(to - c), _mm512_permutexvar_epi16(codes, table));
  }
}

template <int kBits>
void DecodeInt(const MatView& w, const TilePlace& place, std::byte* tile) noexcept {
  constexpr int kOwnZero = kBits == 4 ? kInt4Zero : kInt8Zero;
  const int64_t end = place.column + place.columns;
  const int64_t group = w.block_columns;
  for (int64_t r = 0; r < place.rows; ++r) {
    PrefetchRow(w, place, r, kBits);
    const std::byte* row = w.Row(place.row + r);
    const std::byte* scales = w.RowScales(place.row + r);
    const uint8_t* zeros = w.RowZeros(place.row + r);
    auto* out = reinterpret_cast<uint16_t*>(tile) + r * place.depth;
    for (int64_t c = place.column; c < end;) {
      const int64_t g = c / group;
      const int64_t to = std::min((g + 1) * group, end);
      const int zero = zeros == nullptr ? kOwnZero : zeros[g];
      (kBits == 4 ? Int4Run : Int8Run)(row, c, to, Scale(w, scales, g), zero, out + (c - place.column));
      c = to;
    }
    std::fill(out + place.columns, out + place.depth, uint16_t{0});
  }
}

void Pack(const float* const* x, int64_t n, int64_t columns, int64_t width, std::byte* panel) noexcept {
  auto* out = reinterpret_cast<uint16_t*>(panel);
  const int64_t depth = (columns + TileGemm::kDepthUnit - 1) / TileGemm::kDepthUnit * TileGemm::kDepthUnit;
  for (int64_t t = 0; t < width; t += 16) {
    for (int64_t k = 0; k < depth; k += 32) {
      __m512i v[16];
      for (int64_t i = 0; i < 16; ++i) {
        if (t + i >= n) {
          v[i] = _mm512_setzero_si512();
          continue;
        }
        v[i] = ToBf16(_mm512_maskz_loadu_ps(Mask16(columns - k), x[t + i] + k),
                      _mm512_maskz_loadu_ps(Mask16(columns - k - 16), x[t + i] + k + 16));
      }
      Transpose(v);
      for (int64_t i = 0; i < 16; ++i) _mm512_store_si512(out + (k / 2 + i) * width * 2 + t * 2, v[i]);
    }
  }
}

// e^x for x <= 88, NaN kept: 2^n times a polynomial of the rest (Cephes expf), within 2 units in the last
// place.
__m512 Exp(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-87.f), _mm512_min_ps(_mm512_set1_ps(88.f), x));
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  for (const float c :
       {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f})
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
  p = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(r, r), p, r), _mm512_set1_ps(1.f));
  return _mm512_scalef_ps(p, n);
}

__m512 SiluTimes(__m512 g, __m512 u) {
  const __m512 one = _mm512_set1_ps(1.f);
  return _mm512_mul_ps(_mm512_div_ps(g, _mm512_add_ps(one, Exp(_mm512_sub_ps(_mm512_setzero_ps(), g)))), u);
}

void Silu(const float* gate, const float* up, int64_t rows, int64_t width, std::byte* panel) noexcept {
  auto* out = reinterpret_cast<uint16_t*>(panel);
  const __m512i interleave = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
                                              23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  for (int64_t r = 0; r < rows; r += 2) {
    for (int64_t t = 0; t < width; t += 16) {
      const int64_t at = r * width + t;
      const __m512 even = SiluTimes(_mm512_load_ps(gate + at), _mm512_load_ps(up + at));
      const __m512 odd = r + 1 < rows
                             ? SiluTimes(_mm512_load_ps(gate + at + width), _mm512_load_ps(up + at + width))
                             : _mm512_setzero_ps();
      _mm512_store_si512(out + r * width + 2 * t, _mm512_permutexvar_epi16(interleave, ToBf16(even, odd)));
    }
  }
}

void Store(const float* c, int64_t rows, int64_t width, int64_t n, const float* gains,
           float* const* y) noexcept {
  for (int64_t t = 0; t < n; t += 16) {
    for (int64_t r = 0; r < rows; r += 16) {
      __m512i v[16];
      for (int64_t i = 0; i < 16; ++i)
        v[i] = r + i < rows ? _mm512_load_si512(c + (r + i) * width + t) : _mm512_setzero_si512();
      Transpose(v);
      const __mmask16 mask = Mask16(rows - r);
      for (int64_t i = 0; i < std::min<int64_t>(16, n - t); ++i) {
        float* at = y[t + i] + r;
        const __m512 value = _mm512_castsi512_ps(v[i]);
        _mm512_mask_storeu_ps(at, mask,
                              gains == nullptr ? value
                                               : _mm512_fmadd_ps(_mm512_set1_ps(gains[t + i]), value,
                                                                 _mm512_maskz_loadu_ps(mask, at)));
      }
    }
  }
}

}  // namespace

const TileKernels kTileBf16 = {
    "avx512-bf16",
    GemmType::kBf16,
    {DecodePlain<F32>, DecodePlain<F16>, DecodePlain<Bf16>, DecodeFp8, DecodeInt<8>, DecodeInt<4>},
    Pack,
    Silu,
    Store};

}  // namespace moraine::avx512
