// AMX integer kernels: 16 rows of W meet up to 16 rows of x in one instruction, 64 columns deep.
//
// For 16 rows of W at a time, slabs of columns are decoded to int8 in the first cache, and each panel of x
// passes over them. The integer sums of a step, the columns under one scale of W and of x, are exact; they
// are converted, multiplied by (scale of W x scale of x) and added to the output's total, step after step. An
// output keeps its lane from first to last, so its bits depend on nothing but W's columns and format.
//
// The 16 rows are as many streams from memory, more than the prefetchers keep up with: each is asked for
// kAhead bytes ahead. Of one core's plain reads, one row of x: int8 97 % at 256 and at 512 bytes, int4-g128
// 86 and 91 %; 84 and 68 % when the next 16 rows are asked for in the order of memory instead, 80 and 60 %
// without asking.
#include <algorithm>
#include <cstring>
#include <memory>

#include "cpu/kernels/amx_tiles.inc"
#include "cpu/kernels/avx512_q8.inc"
#include "cpu/kernels/avx512_transpose.inc"
#include "cpu/kernels/kernels.h"

namespace moraine::amx {
namespace {

using avx512_q8::Load64;
using avx512_q8::Q8;

constexpr int64_t kRows = 16;     // of W in a block, and of x in a panel
constexpr int64_t kUnit = 64;     // columns of a tile
constexpr int64_t kRing = 16;     // tiles of decoded weights at hand
constexpr int64_t kPiece = 8192;  // columns of x packed at a time: more than any expert of a known model has
constexpr int64_t kPanels = 8;    // of x packed at a time
constexpr int64_t kSteps = kPiece / kQ8Block;
constexpr int64_t kAhead = 512;

// One thread's memory; of x, only what its products need is ever touched.
struct Scratch {
  alignas(64) int8_t x[kPanels][kPiece * kRows];   // [panel][unit][64 / 4][N][4]
  alignas(64) float x_scale[kPanels][kSteps][16];  // [panel][step][lane]: of row lane % N of the panel
  alignas(64) float x_sum[kPanels][kSteps][16];    // likewise: scale x sum of codes
  alignas(64) float w_scale[kSteps][16];           // [step][row of W]
  alignas(64) float w_zero[kSteps][16];            // scale x zero, where zeros are stored
  alignas(64) int8_t w[kRing * kUnit * kRows];     // [unit % kRing][row][64]
  alignas(64) float totals[kPanels][16 * 16];      // [panel][row of W][N]
  alignas(64) int32_t sums[2][16 * 16];            // of two steps: [row of W][N]
};

static_assert(sizeof(Scratch) <= kQ8TileBytes);

Scratch& Mine() {
  thread_local const std::unique_ptr<Scratch> mine(new Scratch);
  return *mine;
}

// Decode: a line of a tile from the codes of 64 columns, less the format's middle, times 1 / kFactor.
// Activations: the same columns of x in the same order.
struct Int8 {
  static constexpr int64_t kBits = 8;
  static constexpr int kMiddle = kInt8Zero;
  static constexpr float kFactor = 1.f;
  template <int kStep>
  static __m512i Decode(const std::byte* codes) {
    return _mm512_xor_si512(Load64(codes), _mm512_set1_epi8(-0x80));
  }
  template <int kStep>
  static __m512i Activations(const int8_t* codes, int64_t unit) {
    return Load64(codes + unit * kUnit);
  }
};

// The even columns of a step, then its odd ones, each in the upper half of its byte.
struct Int4 {
  static constexpr int64_t kBits = 4;
  static constexpr int kMiddle = kInt4Zero;
  static constexpr float kFactor = 1.f / 16;
  template <int kStep>
  static __m512i Decode(const std::byte* codes) {
    constexpr int64_t kUp = 0x0004000400040004;
    __m512i bytes = _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)));
    __m512i shifts = _mm512_set_epi64(0, 0, 0, 0, kUp, kUp, kUp, kUp);
    if (kStep == 32) {
      bytes = _mm512_shuffle_i64x2(bytes, bytes, 0x50);
      shifts = _mm512_set_epi64(0, 0, kUp, kUp, 0, 0, kUp, kUp);
    }
    constexpr int kAAndBXorC = 0x6A;
    return _mm512_ternarylogic_epi64(_mm512_sllv_epi16(bytes, shifts), _mm512_set1_epi8(-0x10),
                                     _mm512_set1_epi8(-0x80), kAAndBXorC);
  }
  template <int kStep>
  static __m512i Activations(const int8_t* codes, int64_t unit) {
    // From 64 even and 64 odd columns of a chunk (Q8Layout::kPairs).
    const int8_t* even = codes + unit / 2 * kQ8Chunk + unit % 2 * 32;
    const auto load = [](const int8_t* at) {
      return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
    };
    const __m512i line = _mm512_inserti64x4(_mm512_castsi256_si512(load(even)), load(even + kQ8Chunk / 2), 1);
    return kStep >= 64 ? line : _mm512_shuffle_i64x2(line, line, 0xD8);
  }
};

int64_t Units(int64_t columns) { return PaddedColumns(columns) / kUnit; }

// Rows x[0, n), n at most N, of columns [begin, begin + units), into panel p.
template <typename Format, int kStep, int N>
void Pack(const Q8Row* x, int64_t n, int64_t begin, int64_t units, int64_t p, Scratch* s) {
  const int64_t first = begin / kUnit;
  int8_t* out = s->x[p];
  const auto mask = static_cast<__mmask16>((1u << N) - 1);
  for (int64_t u = 0; u < units; ++u) {
    __m512i v[16];
    for (int64_t t = 0; t < 16; ++t)
      v[t] = t < n ? Format::template Activations<kStep>(x[t].codes, first + u) : _mm512_setzero_si512();
    if (N > 1) Transpose(v);
    for (int64_t k = 0; k < (N > 1 ? 16 : 1); ++k)
      _mm512_mask_storeu_epi32(out + (u * 16 + k) * N * 4, N > 1 ? mask : __mmask16{0xFFFF}, v[k]);
  }
  const int64_t blocks = units * kUnit / kQ8Block;
  const int64_t each = kStep / kQ8Block;
  for (int64_t step = 0; step < blocks / each; ++step) {
    for (int64_t lane = 0; lane < 16; ++lane) {
      const int64_t t = lane % N;
      const int64_t block = begin / kQ8Block + step * each;
      s->x_scale[p][step][lane] = t < n ? x[t].scale[block] : 0.f;
      float sum = 0;
      for (int64_t i = 0; i < each && t < n; ++i) sum += x[t].sum[block + i];
      s->x_sum[p][step][lane] = sum;
    }
  }
}

// Up to sixteen scales of a row as floats, zeros behind `count`.
__m512 Scales(ScaleType type, const std::byte* at, int64_t count) {
  const __mmask16 mask = Q8::Part(count);
  if (type == ScaleType::kF32) return _mm512_maskz_loadu_ps(mask, at);
  const __m256i half = _mm256_maskz_loadu_epi16(mask, at);
  if (type == ScaleType::kF16) return _mm512_cvtph_ps(half);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

// Scales of `rows` rows of W from `row` on, a vector a step of columns [begin, begin + units).
template <typename Format, int kStep>
void LoadScales(const MatView& w, int64_t row, int64_t rows, int64_t begin, int64_t units, Scratch* s) {
  const int64_t steps = units * kUnit / kStep;
  const bool one = w.scale_columns == 1;
  const int64_t each = one ? steps : w.block_columns / kStep;
  const int64_t skipped = one ? 0 : begin / kStep % each;  // steps of the first group before `begin`
  const int64_t first = one ? 0 : begin / kStep / each;
  const int64_t last = one ? 1 : std::min(w.scale_columns, (begin / kStep + steps - 1) / each + 1);
  // Integer formats have their scales row by row.
  const int64_t scale_bytes = ScaleBytes(w.scale_type);
  const std::byte* row_scales = w.RowScales(row);
  const uint8_t* row_zeros = w.RowZeros(row);
  for (int64_t g = first; g < last; g += 16) {
    __m512i scales[16];
    __m512i zeros[16];
    for (int64_t r = 0; r < 16; ++r) {
      scales[r] = zeros[r] = _mm512_setzero_si512();
      if (r >= rows) continue;
      const std::byte* at = row_scales + (r * w.scale_columns + g) * scale_bytes;
      const __m512 value = _mm512_mul_ps(Scales(w.scale_type, at, last - g), _mm512_set1_ps(Format::kFactor));
      scales[r] = _mm512_castps_si512(value);
      if (w.zeros == nullptr) continue;
      const __m512i stored =
          _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(Q8::Part(last - g), row_zeros + r * w.scale_columns + g));
      const __m512 zero = _mm512_cvtepi32_ps(_mm512_sub_epi32(stored, _mm512_set1_epi32(Format::kMiddle)));
      zeros[r] =
          _mm512_castps_si512(_mm512_mul_ps(zero, _mm512_mul_ps(value, _mm512_set1_ps(1 / Format::kFactor))));
    }
    Transpose(scales);
    if (w.zeros != nullptr) Transpose(zeros);
    for (int64_t i = 0; i < std::min<int64_t>(16, last - g); ++i) {
      const int64_t from = std::max<int64_t>(0, (g + i - first) * each - skipped);
      const int64_t to = std::min(steps, (g + i - first + 1) * each - skipped);
      for (int64_t step = from; step < to; ++step) {
        _mm512_store_si512(s->w_scale[step], scales[i]);
        if (w.zeros != nullptr) _mm512_store_si512(s->w_zero[step], zeros[i]);
      }
    }
  }
  // Behind the row's end x is 0, but 0 times what happens to lie here need not be.
  for (int64_t step = std::max<int64_t>(0, (last - first) * each - skipped); step < steps; ++step) {
    std::fill_n(s->w_scale[step], kRows, 0.f);
    std::fill_n(s->w_zero[step], kRows, 0.f);
  }
}

// Sixteen rows of W on their way into s->w.
struct Rows {
  const std::byte* at;
  int64_t stride;
  int64_t bytes;  // of a row
  int64_t count;  // rows that are there
};

template <typename Format, int kStep>
void DecodeEnd(const Rows& rows, int64_t unit, int8_t* out) {
  constexpr int64_t kBytes = kUnit * Format::kBits / 8;
  const int64_t left = std::clamp<int64_t>(rows.bytes - unit * kBytes, 0, kBytes);
  for (int64_t r = 0; r < rows.count; ++r) {
    alignas(64) std::byte line[kBytes] = {};  // x is 0 behind the row's end
    std::memcpy(line, rows.at + r * rows.stride + unit * kBytes, static_cast<size_t>(left));
    _mm512_store_si512(out + r * kUnit, Format::template Decode<kStep>(line));
  }
}

template <typename Format, int kStep>
inline __attribute__((always_inline)) void DecodeUnit(const Rows& rows, int64_t unit, Scratch* s) {
  constexpr int64_t kBytes = kUnit * Format::kBits / 8;
  int8_t* out = s->w + unit % kRing * kUnit * kRows;
  if (rows.count < kRows || (unit + 1) * kBytes > rows.bytes)
    return DecodeEnd<Format, kStep>(rows, unit, out);
  const std::byte* at = rows.at + unit * kBytes;
  // Behind the row's end comes the row sixteen further down.
  const bool ends = unit * kBytes + kAhead >= rows.bytes;
  const int64_t ahead = ends ? kAhead + kRows * rows.stride - rows.bytes : kAhead;
  for (int64_t r = 0; r < kRows; ++r) {
    _mm512_store_si512(out + r * kUnit, Format::template Decode<kStep>(at + r * rows.stride));
    // One request a line: units of half a line ask for every other row's.
    if (kBytes == 64 || unit % 2 == r % 2) __builtin_prefetch(at + r * rows.stride + ahead, 0, 2);
  }
}

// Which row of W each lane of vector v belongs to when a row has N lanes.
template <int N>
__m512i RowsOf(int v) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  constexpr int kShift = N == 1 ? 0 : N == 2 ? 1 : N == 4 ? 2 : N == 8 ? 3 : 4;
  return _mm512_add_epi32(_mm512_srli_epi32(lanes, kShift), _mm512_set1_epi32(v * (16 / N)));
}

// Units [first_unit, first_unit + units) with panel p, added to its totals. kDecode: they are not in s->w
// yet.
template <typename Format, int kStep, int N, bool kDecode>
void Multiply(const Rows& rows, int64_t first_unit, int64_t units, bool zeros, int64_t p, Scratch* s) {
  const int64_t first = first_unit * kUnit / kStep;
  const int64_t last = (first_unit + units) * kUnit / kStep;
  __m512 total[N];
  for (int v = 0; v < N; ++v) total[v] = _mm512_load_ps(s->totals[p] + 16 * v);
  int64_t decoded = first_unit;
  const auto decode_for = [&](int64_t step) {
    const int64_t end = std::min(first_unit + units, (step * kStep + kStep + kUnit - 1) / kUnit);
    while (kDecode && decoded < end) DecodeUnit<Format, kStep>(rows, decoded++, s);
  };
  // kStep 32: two steps share the lines of a unit.
  const auto weights = [&](int64_t column) {
    return s->w + column / kUnit % kRing * kUnit * kRows + column % kUnit;
  };
  const auto activations = [&](int64_t column) { return s->x[p] + column * N; };
  const auto issue0 = [&](int64_t step) {
    _tile_zero(0);
    for (int64_t c = step * kStep; c < (step + 1) * kStep; c += kUnit) {
      _tile_loadd(2, weights(c), kUnit);
      _tile_loadd(4, activations(c), 4 * N);
      _tile_dpbssd(0, 2, 4);
    }
    _tile_stored(0, s->sums[0], 4 * N);
  };
  const auto issue1 = [&](int64_t step) {
    _tile_zero(1);
    for (int64_t c = step * kStep; c < (step + 1) * kStep; c += kUnit) {
      _tile_loadd(3, weights(c), kUnit);
      _tile_loadd(5, activations(c), 4 * N);
      _tile_dpbssd(1, 3, 5);
    }
    _tile_stored(1, s->sums[1], 4 * N);
  };
  const auto add = [&](int64_t step, const int32_t* sums) {
    const __m512 x_scale = _mm512_load_ps(s->x_scale[p][step]);
    const float* w_scale = s->w_scale[step];
    for (int v = 0; v < N; ++v) {
      const __m512 scale = N == 16  ? _mm512_set1_ps(w_scale[v])
                           : N == 1 ? _mm512_load_ps(w_scale)
                                    : _mm512_permutexvar_ps(RowsOf<N>(v), _mm512_load_ps(w_scale));
      total[v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_load_si512(sums + 16 * v)),
                                 _mm512_mul_ps(scale, x_scale), total[v]);
    }
    if (!zeros) return;
    const __m512 x_sum = _mm512_load_ps(s->x_sum[p][step]);
    for (int v = 0; v < N; ++v) {
      const __m512 zero = _mm512_permutexvar_ps(RowsOf<N>(v), _mm512_load_ps(s->w_zero[step]));
      total[v] = _mm512_fnmadd_ps(zero, x_sum, total[v]);
    }
  };
  // Tiles are stored a step before they are read, and lines two steps before they are loaded.
  decode_for(first + 1);
  issue0(first);
  int64_t step = first;
  for (; step + 2 <= last; step += 2) {
    decode_for(step + 2);
    issue1(step + 1);
    add(step, s->sums[0]);
    decode_for(step + 3);
    if (step + 2 < last) issue0(step + 2);
    add(step + 1, s->sums[1]);
  }
  if (step < last) add(step, s->sums[0]);
  for (int v = 0; v < N; ++v) _mm512_store_ps(s->totals[p] + 16 * v, total[v]);
}

// totals of one panel <- y, or 0 before the first piece; and back.
template <int N>
void LoadTotals(int64_t row, int64_t rows, int64_t n, float* const* y, float* totals) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t t = 0; t < n; ++t) totals[r * N + t] = y[t][row + r];
  }
}

template <int N>
void StoreTotals(const float* totals, int64_t row, int64_t rows, int64_t n, float* const* y) {
  if (N < 16) {
    for (int64_t t = 0; t < n; ++t) {
      for (int64_t r = 0; r < rows; ++r) y[t][row + r] = totals[r * N + t];
    }
    return;
  }
  __m512i v[16];
  for (int64_t r = 0; r < 16; ++r) v[r] = _mm512_load_si512(totals + 16 * r);
  Transpose(v);
  for (int64_t t = 0; t < n; ++t) _mm512_mask_storeu_epi32(y[t] + row, Q8::Part(rows), v[t]);
}

// Rows x[0, n), at most kPanels panels of N, with rows [row_begin, row_end) of W.
template <typename Format, int kStep, int N>
void Group(const MatView& w, int64_t row_begin, int64_t row_end, const Q8Row* x, int64_t n, float* const* y) {
  const amx_tiles::Tiles tiles(std::min<int>(kStep, kUnit), N);
  Scratch* s = &Mine();
  const int64_t panels = (n + N - 1) / N;
  const auto rows_of = [&](int64_t p) { return std::min<int64_t>(N, n - p * N); };
  for (int64_t begin = 0; begin < w.columns; begin += kPiece) {
    const int64_t units = Units(std::min(kPiece, w.columns - begin));
    for (int64_t p = 0; p < panels; ++p) Pack<Format, kStep, N>(x + p * N, rows_of(p), begin, units, p, s);
    for (int64_t row = row_begin; row < row_end; row += kRows) {
      const int64_t rows = std::min(kRows, row_end - row);
      constexpr int64_t kBits = Format::kBits;
      const Rows in = {w.Row(row) + begin * kBits / 8, w.row_bytes, ((w.columns - begin) * kBits + 7) / 8,
                       rows};
      LoadScales<Format, kStep>(w, row, rows, begin, units, s);
      for (int64_t p = 0; p < panels; ++p) {
        if (begin == 0)
          std::fill_n(s->totals[p], 16 * N, 0.f);
        else
          LoadTotals<N>(row, rows, rows_of(p), y + p * N, s->totals[p]);
      }
      // One panel takes the units as they are decoded; several share what the ring holds.
      const int64_t slab = panels == 1 ? units : kRing;
      for (int64_t u = 0; u < units; u += slab) {
        const int64_t part = std::min(slab, units - u);
        Multiply<Format, kStep, N, true>(in, u, part, w.zeros != nullptr, 0, s);
        for (int64_t p = 1; p < panels; ++p)
          Multiply<Format, kStep, N, false>(in, u, part, w.zeros != nullptr, p, s);
      }
      for (int64_t p = 0; p < panels; ++p) StoreTotals<N>(s->totals[p], row, rows, rows_of(p), y + p * N);
    }
  }
}

template <typename Format, int kStep>
void Steps(const MatView& w, int64_t row_begin, int64_t row_end, const Q8Row* x, int64_t n, float* const* y) {
  for (int64_t t = 0; t < n; t += kPanels * kRows) {
    const int64_t some = std::min(kPanels * kRows, n - t);
    const auto group = some == 1   ? Group<Format, kStep, 1>
                       : some == 2 ? Group<Format, kStep, 2>
                       : some <= 4 ? Group<Format, kStep, 4>
                       : some <= 8 ? Group<Format, kStep, 8>
                                   : Group<Format, kStep, 16>;
    group(w, row_begin, row_end, x + t, some, y + t);
  }
}

template <typename Format>
MORAINE_Q8_DOT(Q8Tile) {
  if (w.scale_columns == 1 || w.block_columns % kQ8Span == 0) {
    Steps<Format, 128>(w, row_begin, row_end, x, n, y);
  } else if (w.block_columns % kUnit == 0) {
    Steps<Format, 64>(w, row_begin, row_end, x, n, y);
  } else {
    Steps<Format, 32>(w, row_begin, row_end, x, n, y);
  }
}

}  // namespace

MORAINE_Q8_DOT(Q8TileInt8) { Q8Tile<Int8>(w, row_begin, row_end, x, n, y); }
MORAINE_Q8_DOT(Q8TileInt4) { Q8Tile<Int4>(w, row_begin, row_end, x, n, y); }
}  // namespace moraine::amx
