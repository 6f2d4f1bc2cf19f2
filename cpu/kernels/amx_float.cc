// AMX kernels with f32 activations for bf16 and e4m3 weights: 16 rows of W meet up to five rows of x in one
// instruction, 32 columns deep.
//
// An f32 is the exact sum of three bf16, each the 8 leading bits of what the one before left over. So a row
// of x becomes three columns of a tile, and the product is as good as one in f32; one instruction has room
// for five rows of x, which cost what one does. e4m3 is exact in bf16 and is decoded in the first cache, a
// few tiles ahead; bf16 goes from memory into the tile registers.
//
// The sums of a step, the columns under one scale of W, are formed in two tiles in turn; they are multiplied
// by the scale and added to the output's totals, one for each part of x, which come together at the end. An
// output's bits depend on nothing but W's columns and format.
#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "cpu/kernel_table.h"
#include "cpu/kernels/amx_tiles.inc"
#include "cpu/kernels/avx512_transpose.inc"
#include "cpu/kernels/e4m3_tables.inc"
#include "cpu/kernels/kernels.h"

namespace moraine::amx {
namespace {

constexpr int64_t kRows = 16;       // of W in a block
constexpr int64_t kDeep = 32;       // columns of a tile
constexpr int64_t kLine = 64;       // bytes of a tile's row
constexpr int64_t kTile = 1024;     // bytes
constexpr int64_t kRing = 16;       // tiles of decoded weights at hand
constexpr int64_t kPiece = 8192;    // columns of x packed at a time
constexpr int64_t kPanels = 4;      // of x packed at a time
constexpr int64_t kPanelRows = 5;   // of x in a panel
constexpr int64_t kLongStep = 512;  // columns summed in a tile where there are no scales
constexpr int64_t kScaledStep = 128;
constexpr int64_t kLead = 4;     // tiles decoded before the one that is multiplied
constexpr int64_t kAhead = 512;  // bytes (see amx_q8.cc)

// One thread's memory; of x, only what its products need is ever touched.
struct Scratch {
  alignas(
      64) std::byte x[kPanels][kPiece / kDeep * kTile];  // [panel][tile][pair of columns][W] pairs of bf16
  alignas(64) std::byte w[kRing * kTile];                // [tile % kRing][row][32] bf16
  alignas(64) float totals[kPanels][16 * 16];            // [panel][row of W][W]
  alignas(64) float sums[2][2][16 * 16];                 // [step % 2][tile % 2][row of W][W]
};

static_assert(sizeof(Scratch) <= kFloatTileBytes);
static_assert((kRing & (kRing - 1)) == 0 && kLead + 2 <= kRing);

Scratch& Mine() {
  thread_local const std::unique_ptr<Scratch> mine(new Scratch);
  return *mine;
}

// Sixteen rows of W on their way into tiles.
struct Rows {
  const std::byte* at;
  int64_t stride;
  int64_t bytes;  // of a row
  int64_t count;  // rows that are there
};

// Where to ask for what comes kAhead bytes behind byte `at` of a row: behind its end lies the row sixteen
// further down.
int64_t Ahead(const Rows& rows, int64_t at) {
  return at + kAhead < rows.bytes ? kAhead : kAhead + kRows * rows.stride - rows.bytes;
}

// A format: kBytes of a weight; kUnit, columns decoded at once; Halves, where the 2 x 8 columns lie that make
// half i of a tile; Decoder, which turns kUnit weights into lines of tiles.
struct Fp8 {
  static constexpr int64_t kBytes = 1;
  static constexpr int64_t kUnit = 64;
  static constexpr bool kDecoded = true;
  // Eight of each sixteen columns go to one tile, eight to the next (e4m3::Words).
  static std::pair<const float*, const float*> Halves(const float* x, int64_t tile, int64_t i) {
    const float* at = x + tile / 2 * kUnit + tile % 2 * 8 + i * 32;
    return {at, at + 16};
  }
  struct Decoder {
    e4m3::Affine affine = e4m3::MakeAffine();
    void operator()(const std::byte* codes, std::byte* line) const {
      const __m512i c = e4m3::Load64(codes);
      if (e4m3::AnySmallOrNan(affine, c)) [[unlikely]]
        return Store(e4m3::Decode(c), line);
      Store(e4m3::DecodeNormal(affine, c), line);
    }
    static void Store(const e4m3::Words& words, std::byte* line) {
      _mm512_store_si512(line, words.first);
      _mm512_store_si512(line + kTile, words.second);
    }
  };
};

struct Bf16 {
  static constexpr int64_t kBytes = 2;
  static constexpr int64_t kUnit = 32;
  static constexpr bool kDecoded = false;
  static std::pair<const float*, const float*> Halves(const float* x, int64_t tile, int64_t i) {
    const float* at = x + tile * kUnit + i * 16;
    return {at, at + 8};
  }
  struct Decoder {
    void operator()(const std::byte* weights, std::byte* line) const {
      _mm512_store_si512(line, e4m3::Load64(weights));
    }
  };
};

// Columns, rounded up to whole units of the format, in tiles.
template <typename Format>
int64_t Tiles(int64_t columns) {
  return (columns + Format::kUnit - 1) / Format::kUnit * (Format::kUnit / kDeep);
}

// The pairs of columns of one tile, of each part of a row of x.
struct Parts {
  __m512i of[3];
};

__m512i Leading(__m512 value) {
  return _mm512_and_si512(_mm512_castps_si512(value), _mm512_set1_epi32(static_cast<int>(0xFFFF0000u)));
}

Parts Split(__m512 a, __m512 b) {
  Parts parts;
  for (__m512i& part : parts.of) {
    const __m512i first = Leading(a);
    const __m512i second = Leading(b);
    a = _mm512_sub_ps(a, _mm512_castsi512_ps(first));
    b = _mm512_sub_ps(b, _mm512_castsi512_ps(second));
    // Columns 2 k and 2 k + 1 in dword k: a's in the lower half of the vector, b's in the upper one.
    const __m512i order = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31,
                                           29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    part = _mm512_permutex2var_epi16(first, order, second);
  }
  return parts;
}

__m512 LoadHalves(std::pair<const float*, const float*> halves) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(halves.first)),
                            _mm256_loadu_ps(halves.second), 1);
}

template <typename Format>
Parts SplitTile(const float* x, int64_t tile) {
  return Split(LoadHalves(Format::Halves(x, tile, 0)), LoadHalves(Format::Halves(x, tile, 1)));
}

// One row of x: four columns of a tile, the last of them 0.
void StoreOne(const Parts& parts, std::byte* out) {
  const __m512i(&v)[3] = parts.of;
  const __m512i zero = _mm512_setzero_si512();
  const __m512i a = _mm512_unpacklo_epi32(v[0], v[1]);
  const __m512i b = _mm512_unpackhi_epi32(v[0], v[1]);
  const __m512i c = _mm512_unpacklo_epi32(v[2], zero);
  const __m512i d = _mm512_unpackhi_epi32(v[2], zero);
  // q[i]: pairs i, 4 + i, 8 + i, 12 + i.
  const __m512i q[4] = {_mm512_unpacklo_epi64(a, c), _mm512_unpackhi_epi64(a, c), _mm512_unpacklo_epi64(b, d),
                        _mm512_unpackhi_epi64(b, d)};
  const __m512i e = _mm512_shuffle_i32x4(q[0], q[1], 0x44);
  const __m512i f = _mm512_shuffle_i32x4(q[2], q[3], 0x44);
  const __m512i g = _mm512_shuffle_i32x4(q[0], q[1], 0xEE);
  const __m512i h = _mm512_shuffle_i32x4(q[2], q[3], 0xEE);
  _mm512_store_si512(out, _mm512_shuffle_i32x4(e, f, 0x88));
  _mm512_store_si512(out + 64, _mm512_shuffle_i32x4(e, f, 0xDD));
  _mm512_store_si512(out + 128, _mm512_shuffle_i32x4(g, h, 0x88));
  _mm512_store_si512(out + 192, _mm512_shuffle_i32x4(g, h, 0xDD));
}

// Rows x[0, n), at most T, of which W columns of a tile hold the parts, from column `begin` on.
template <typename Format, int T, int W>
void Pack(const float* const* x, int64_t n, int64_t begin, int64_t columns, std::byte* out) {
  const auto mask = static_cast<__mmask16>((1u << W) - 1);
  const int64_t tiles = Tiles<Format>(columns);
  const int64_t whole = columns / Format::kUnit * (Format::kUnit / kDeep);
  alignas(64) float rest[T][Format::kUnit] = {};
  for (int64_t t = 0; t < n; ++t) {
    const int64_t done = whole * kDeep;
    std::memcpy(rest[t], x[t] + begin + done, static_cast<size_t>(columns - done) * sizeof(float));
  }
  for (int64_t tile = 0; tile < tiles; ++tile) {
    const auto split = [&](int64_t t) {
      return tile < whole ? SplitTile<Format>(x[t] + begin, tile) : SplitTile<Format>(rest[t], tile - whole);
    };
    std::byte* at = out + tile * kDeep * 2 * W;
    if constexpr (T == 1) {
      StoreOne(split(0), at);
    } else {
      __m512i v[16];
      for (__m512i& column : v) column = _mm512_setzero_si512();
      for (int64_t t = 0; t < n; ++t) {
        const Parts parts = split(t);
        for (int64_t part = 0; part < 3; ++part) v[part * T + t] = parts.of[part];
      }
      Transpose(v);
      for (int64_t k = 0; k < 16; ++k) _mm512_mask_storeu_epi32(at + k * W * 4, mask, v[k]);
    }
  }
}

// Rows [begin, end) of one unit: the last columns, or rows that are not there, which become zeros.
template <typename Format>
__attribute__((noinline)) void DecodeEnd(const Rows& rows, int64_t unit, int64_t begin, int64_t end,
                                         std::byte* out) {
  constexpr int64_t kUnitBytes = Format::kUnit * Format::kBytes;
  const int64_t left = std::clamp<int64_t>(rows.bytes - unit * kUnitBytes, 0, kUnitBytes);
  for (int64_t r = begin; r < end; ++r) {
    alignas(64) std::byte line[kUnitBytes] = {};
    if (r < rows.count)
      std::memcpy(line, rows.at + r * rows.stride + unit * kUnitBytes, static_cast<size_t>(left));
    typename Format::Decoder()(line, out + r * kLine);
  }
}

bool IsWhole(const Rows& rows, int64_t end) { return rows.count == kRows && end <= rows.bytes; }

// Asks for what comes behind byte `at` of rows [begin, begin + count).
inline __attribute__((always_inline)) void AskAhead(const Rows& rows, int64_t at, int64_t begin,
                                                    int64_t count) {
  const std::byte* from = rows.at + at + Ahead(rows, at) + begin * rows.stride;
  for (int64_t r = 0; r < count; ++r) __builtin_prefetch(from + r * rows.stride, 0, 2);
}

// Tiles [first, first + tiles) of W with panel p of x, in steps of `deep` tiles, added to the panel's totals.
// scales: of each step from the first tile on; null for 1. kFirst: the ring does not hold them yet.
template <typename Format, int W, bool kFirst>
void Multiply(const Rows& rows, int64_t first, int64_t tiles, int64_t deep, const float* scales, int64_t p,
              Scratch* s) {
  const int64_t end = first + tiles;
  const int64_t steps = (tiles + deep - 1) / deep;
  const typename Format::Decoder decode;
  const auto ring = [&](int64_t tile) { return s->w + (tile & (kRing - 1)) * kTile; };
  // Half the rows of the unit that `tile` is half of, so that decoding and multiplying take turns often.
  const auto decode_half = [&](int64_t tile) __attribute__((always_inline)) {
    if constexpr (kFirst && Format::kDecoded) {
      static_assert(Format::kUnit == 2 * kDeep);
      if (tile >= end) return;
      const int64_t begin = tile % 2 * (kRows / 2);
      const int64_t at = tile / 2 * Format::kUnit * Format::kBytes;
      std::byte* out = ring(tile - tile % 2);
      if (!IsWhole(rows, at + Format::kUnit * Format::kBytes)) [[unlikely]]
        return DecodeEnd<Format>(rows, tile / 2, begin, begin + kRows / 2, out);
      const std::byte* from = rows.at + at + begin * rows.stride;
      for (int64_t r = 0; r < kRows / 2; ++r) decode(from + r * rows.stride, out + (begin + r) * kLine);
      AskAhead(rows, at, begin, kRows / 2);
    }
  };
  const auto weights = [&](int64_t tile) __attribute__((always_inline))
                           ->std::pair<const std::byte*, int64_t> {
    if constexpr (!Format::kDecoded) {
      const int64_t at = tile * kLine;
      if (IsWhole(rows, at + kLine)) [[likely]] {
        if constexpr (kFirst) AskAhead(rows, at, 0, kRows);
        return {rows.at + at, rows.stride};
      }
      if (kFirst) DecodeEnd<Format>(rows, tile, 0, kRows, ring(tile));
    }
    return {ring(tile), kLine};
  };
  const std::byte* x = s->x[p] + first * kDeep * 2 * W;
  __m512 total[W];
  for (int v = 0; v < W; ++v) total[v] = _mm512_load_ps(s->totals[p] + 16 * v);
  const auto add = [&](int64_t step) {
    const __m512 scale = _mm512_set1_ps(scales == nullptr ? 1.f : scales[step]);
    const float* even = s->sums[step % 2][0];
    const float* odd = s->sums[step % 2][1];
    for (int v = 0; v < W; ++v) {
      const __m512 sum = _mm512_add_ps(_mm512_load_ps(even + 16 * v), _mm512_load_ps(odd + 16 * v));
      total[v] = _mm512_fmadd_ps(sum, scale, total[v]);
    }
  };
  for (int64_t tile = first; tile < first + kLead; ++tile) decode_half(tile);
  int64_t tile = first;
  for (int64_t step = 0; step < steps; ++step) {
    _tile_zero(0);
    _tile_zero(1);
    for (const int64_t to = std::min(end, tile + deep); tile < to; tile += 2, x += 2 * kDeep * 2 * W) {
      decode_half(tile + kLead);
      const auto [even, even_stride] = weights(tile);
      _tile_loadd(2, even, static_cast<size_t>(even_stride));
      _tile_loadd(4, x, 4 * W);
      _tile_dpbf16ps(0, 2, 4);
      decode_half(tile + kLead + 1);
      if (tile + 1 == to) continue;
      const auto [odd, odd_stride] = weights(tile + 1);
      _tile_loadd(3, odd, static_cast<size_t>(odd_stride));
      _tile_loadd(5, x + kDeep * 2 * W, 4 * W);
      _tile_dpbf16ps(1, 3, 5);
    }
    _tile_stored(0, s->sums[step % 2][0], 4 * W);
    _tile_stored(1, s->sums[step % 2][1], 4 * W);
    // Sums are read a step after they are stored.
    if (step > 0) add(step - 1);
  }
  add(steps - 1);
  for (int v = 0; v < W; ++v) _mm512_store_ps(s->totals[p] + 16 * v, total[v]);
}

// Columns of a step: whole steps make a block of scales.
int64_t StepColumns(const MatView& w) {
  if (w.scales == nullptr) return kLongStep;
  return w.block_columns % kScaledStep == 0 ? kScaledStep : Fp8::kUnit;
}

float ScaleOf(const MatView& w, int64_t row, int64_t column) {
  return DecodeScale(w.scale_type, w.RowScales(row) + column / w.block_columns * ScaleBytes(w.scale_type));
}

// Rows x[0, n), at most kPanels panels of T rows, with rows [row_begin, row_end) of W.
template <typename Format, int T, int W>
void Group(const MatView& w, int64_t row_begin, int64_t row_end, const float* const* x, int64_t n,
           float* const* y) {
  const amx_tiles::Tiles config(kLine, W);
  Scratch* s = &Mine();
  const int64_t panels = (n + T - 1) / T;
  const int64_t step = StepColumns(w);
  const auto rows_of = [&](int64_t p) { return std::min<int64_t>(T, n - p * T); };
  for (int64_t begin = 0; begin < w.columns; begin += kPiece) {
    const int64_t columns = std::min(kPiece, w.columns - begin);
    const int64_t tiles = Tiles<Format>(columns);
    for (int64_t p = 0; p < panels; ++p) Pack<Format, T, W>(x + p * T, rows_of(p), begin, columns, s->x[p]);
    for (int64_t row = row_begin, rows = 0; row < row_end; row += rows) {
      rows = std::min(kRows, row_end - row);
      // All rows of a block of W lie under the same scales.
      if (w.scales != nullptr) rows = std::min(rows, w.block_rows - (w.first_row + row) % w.block_rows);
      const Rows in = {w.Row(row) + begin * Format::kBytes, w.row_bytes, columns * Format::kBytes, rows};
      float scales[kPiece / Fp8::kUnit];
      for (int64_t c = 0; c < columns && w.scales != nullptr; c += step)
        scales[c / step] = ScaleOf(w, row, begin + c);
      for (int64_t p = 0; p < panels; ++p) {
        std::fill_n(s->totals[p], 16 * W, 0.f);
        for (int64_t r = 0; r < rows && begin > 0; ++r) {
          for (int64_t t = 0; t < rows_of(p); ++t) s->totals[p][r * W + t] = y[p * T + t][row + r];
        }
      }
      // One panel takes the tiles as they are decoded; several share what the ring holds.
      const int64_t deep = step / kDeep;
      const int64_t slab = panels == 1 ? tiles : std::max<int64_t>(1, kRing / deep) * deep;
      for (int64_t tile = 0; tile < tiles; tile += slab) {
        const int64_t part = std::min(slab, tiles - tile);
        const float* from = w.scales == nullptr ? nullptr : scales + tile / deep;
        Multiply<Format, W, true>(in, tile, part, deep, from, 0, s);
        for (int64_t p = 1; p < panels; ++p) Multiply<Format, W, false>(in, tile, part, deep, from, p, s);
      }
      for (int64_t p = 0; p < panels; ++p) {
        for (int64_t r = 0; r < rows; ++r) {
          const float* parts = s->totals[p] + r * W;
          for (int64_t t = 0; t < rows_of(p); ++t)
            y[p * T + t][row + r] = parts[t] + (parts[T + t] + parts[2 * T + t]);
        }
      }
    }
  }
}

template <typename Format>
MORAINE_DOT(Dot) {
  for (int64_t t = 0; t < n; t += kPanels * kPanelRows) {
    const int64_t some = std::min(kPanels * kPanelRows, n - t);
    const auto group = some == 1   ? Group<Format, 1, 4>
                       : some == 2 ? Group<Format, 2, 8>
                                   : Group<Format, 5, 16>;
    group(w, row_begin, row_end, x + t, some, y + t);
  }
}

}  // namespace

MORAINE_DOT(DotBf16) { Dot<Bf16>(w, row_begin, row_end, x, n, y); }

MORAINE_DOT(DotFp8) {
  if (w.block_columns % Fp8::kUnit != 0) return avx512vbmi::DotFp8(w, row_begin, row_end, x, n, y);
  Dot<Fp8>(w, row_begin, row_end, x, n, y);
}

}  // namespace moraine::amx
