// The one table of CPU kernels: {operation, weight format, ISA}, fastest first, scalar last, chosen once at
// load.
//
// A new kernel is one function in cpu/kernels/<isa>*.cc and one row in kernel_table.cc;
// tests/cpu/kernel_test.cc then compares it with scalar over odd sizes, slices and row counts wherever the
// CPU has the ISA.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cpu/q8_rows.h"
#include "runtime/core/mat_view.h"
#include "runtime/core/result.h"

namespace moraine {

class PrefillGemm;

/// What an AMX dot row keeps for each thread that calls it, from the first call on; touched only as far as x
/// is wide and has rows.
inline constexpr int64_t kFloatTileBytes = int64_t{1088} << 10;

/// y[t][r] = sum over c of W[r, c] x[t][c] for rows r in [row_begin, row_end) and t in [0, n); n >= 0. Every
/// x[t] has W.columns values, any alignment; y[t] is indexed by absolute row. The sum of one (t, r) is formed
/// in an order that depends on nothing but W's columns and format: any n, slice and thread count give the
/// same bits. At most a few KiB behind a row's end are asked for ahead, never read.
using DotFn = void (*)(const MatView& w, int64_t row_begin, int64_t row_end, const float* const* x, int64_t n,
                       float* const* y) noexcept;

/// The same with quantised rows of W.columns values in LayoutFor(W's format), for views that FitsQ8.
using Q8DotFn = void (*)(const MatView& w, int64_t row_begin, int64_t row_end, const Q8Row* x, int64_t n,
                         float* const* y) noexcept;

/// y[c] = sum over r of x[r] W[r, c], rows in ascending order; y has W.columns values and is overwritten.
using TransposedFn = void (*)(const MatView& w, const float* x, float* y) noexcept;

/// Quantises columns [begin, end) of a row x of `columns` values; begin is a multiple of 128, and so is end
/// unless it is `columns`, when the padding is written too. Different parts may be written at once.
using QuantiseFn = void (*)(const float* x, int64_t columns, int64_t begin, int64_t end, Q8Layout layout,
                            const Q8Row& out) noexcept;

/// out[i] = silu(gate[i]) * up[i]; out may be either input.
using SiluFn = void (*)(const float* gate, const float* up, int64_t count, float* out) noexcept;

/// values[i] = exp(values[i] - maximum) with values <= maximum; returns their sum.
using ExpSumFn = float (*)(float* values, int64_t count, float maximum) noexcept;

/// Best first; each of them asks for all behind it.
enum class Isa : uint8_t { kAmx, kAvx512Vbmi, kAvx512Vnni, kAvx512, kAvx2, kScalar };
inline constexpr int kIsas = 6;
/// "amx", "avx512-vbmi", "avx512-vnni", "avx512", "avx2", "scalar".
std::string_view Name(Isa isa);

enum class KernelOp : uint8_t { kDot, kQ8Dot, kQ8Tile, kTransposed };
/// "dot", "q8-dot", "q8-tile", "transposed".
std::string_view Name(KernelOp op);

struct KernelRow {
  KernelOp op;
  WeightFormat format;
  Isa isa;
  DotFn dot;                // for kDot
  Q8DotFn q8_dot;           // for kQ8Dot and kQ8Tile
  TransposedFn transposed;  // for kTransposed
  int64_t min_rows;         // kDot, kQ8Tile: from how many rows of x on it is the faster one, as measured
};

/// What stands between products, whatever the weights' format.
struct ActivationRow {
  Isa isa;
  QuantiseFn quantise;
  SiluFn silu;
  ExpSumFn exp_sum;
};

/// All rows that were compiled, best first.
std::span<const KernelRow> KernelRows();
std::span<const ActivationRow> ActivationRows();
/// True when this CPU (and operating system) can execute `isa`.
bool CpuHas(Isa isa);
/// The best that it can.
Isa BestIsa();
/// A short reason why CpuHas is false: "this CPU has no AVX2 with FMA".
std::string WhyNot(Isa isa);

/// True when a q8-dot row can take `w`: an integer format whose groups are whole blocks of 32, or whole rows.
bool FitsQ8(const MatView& w);

/// One function per operation and format: what a backend calls.
struct KernelSet {
  std::array<DotFn, kWeightFormats> dot{};
  std::array<DotFn, kWeightFormats> dot_tile{};         // null where no tile is to be had
  std::array<int64_t, kWeightFormats> dot_tile_rows{};  // from this many rows of x on
  int64_t dot_bytes = 0;                                // that dot_tile keeps for each thread that calls it
  std::array<Q8DotFn, kWeightFormats>
      q8_dot{};  // null but for integer formats, and for all with f32 activations
  std::array<Q8DotFn, kWeightFormats> q8_tile{};       // null where no tile is to be had
  std::array<int64_t, kWeightFormats> q8_tile_rows{};  // from this many rows of x on
  std::array<Isa, kWeightFormats> q8_tile_isa{};
  std::array<TransposedFn, kWeightFormats> transposed{};
  std::array<Isa, kWeightFormats> isa{};  // of the row that serves experts of few rows, for reports
  QuantiseFn quantise = nullptr;
  SiluFn silu = nullptr;
  ExpSumFn exp_sum = nullptr;
  PrefillGemm* gemm = nullptr;  // borrowed; takes products with many rows where it is there

  DotFn Dot(WeightFormat format) const { return dot[static_cast<size_t>(format)]; }
  /// The faster one for n rows of x. Their sums are formed in different orders.
  DotFn Dot(WeightFormat format, int64_t n) const {
    const auto f = static_cast<size_t>(format);
    return dot_tile[f] != nullptr && n >= dot_tile_rows[f] ? dot_tile[f] : dot[f];
  }
  Q8DotFn Q8Dot(WeightFormat format) const { return q8_dot[static_cast<size_t>(format)]; }
  bool HasTile(WeightFormat format) const { return q8_tile[static_cast<size_t>(format)] != nullptr; }
  bool TakesTile(WeightFormat format, int64_t n) const {
    return HasTile(format) && n >= q8_tile_rows[static_cast<size_t>(format)];
  }
  /// The faster of the two for n rows of x, and its ISA. Their sums are formed in different orders.
  Q8DotFn Q8Dot(WeightFormat format, int64_t n) const {
    return TakesTile(format, n) ? q8_tile[static_cast<size_t>(format)] : Q8Dot(format);
  }
  Isa IsaFor(WeightFormat format, int64_t n) const {
    const auto f = static_cast<size_t>(format);
    return TakesTile(format, n) ? q8_tile_isa[f] : isa[f];
  }
  TransposedFn Transposed(WeightFormat format) const { return transposed[static_cast<size_t>(format)]; }
};

/// How experts of integer formats take their input.
enum class Activations : uint8_t {
  kAuto,  // int8 with a scale for 128 columns
  kF32,   // as they are: slower, and exact but for rounding
};

/// The first row of each (operation, format) that this CPU can run and that is no better than `isa`: "auto"
/// or the name of one. kUsage for another name, kHardware when the CPU lacks the one asked for.
Result<KernelSet> SelectKernels(const std::string& isa, Activations activations = Activations::kAuto);

}  // namespace moraine
