// Products of weights with many rows: weights are decoded a tile at a time into cache and multiplied there by
// oneDNN (cpu/gemm/tile_gemm.h).
//
// A tile is some rows of W by kDepth columns. Its product with a panel of at most TileGemm::kMaxWidth rows of
// x adds to f32 sums that stay in cache until all columns are done. Every output belongs to one task, and its
// order of summation depends on W's columns alone.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cpu/gemm/aligned_bytes.h"
#include "cpu/gemm/gemm_report.h"
#include "cpu/gemm/tile_gemm.h"
#include "cpu/gemm/tile_kernels.h"
#include "runtime/core/dense_weights.h"
#include "runtime/core/mat_view.h"
#include "runtime/core/result.h"

namespace moraine {

class WorkerPool;

/// How far oneDNN may go under a limit on our own kernels ("auto" or a row's name): nowhere under "scalar".
std::optional<GemmIsa> GemmIsaFor(std::string_view isa);

/// Driven from the thread that runs steps; what takes a worker's number may run on several workers at once.
/// Memory is taken by Create, Prepare and Reserve, none later.
///
/// Accuracy against the same product in f32: bf16 weights and activations are each within 2^-9 of the f32
/// ones, so |error| <= (2^-8 + 2^-18 + (columns + 8) 2^-24) sum |w x|. f32 and f16 weights are multiplied in
/// f32 always; f32 products have the last term alone.
class PrefillGemm {
 public:
  struct Options {
    GemmIsa isa = GemmIsa::kAny;
    bool f32_only = false;  // no bf16 product, whatever the CPU
    int workers = 1;
    int64_t min_rows = 0;  // the switch-over of every format; 0: what was measured
  };

  /// kHardware as TileGemm::Create.
  static Result<std::unique_ptr<PrefillGemm>> Create(const Options& options);

  /// Makes and checks the products for matrices of `columns` columns in `format`; known shapes cost nothing.
  /// What oneDNN cannot do right is never taken, and the report says why.
  void Prepare(WeightFormat format, int64_t columns);

  /// True where a product of `w` with `n` rows belongs here: its shape is prepared and n reaches the
  /// switch-over. A constant or an option, not a measurement of this start: the same prompt gives the same
  /// bits tomorrow.
  bool Takes(const MatView& w, int64_t n) const;
  /// The same for all three matrices, which then share their panels' type.
  bool Takes(const MlpWeights& w, int64_t n) const;

  /// y[t] = W x[t], t in [0, n); all of W's rows. Blocking. REQUIRES Takes and Reserve for that many rows.
  void Multiply(WorkerPool& pool, const MatView& w, const float* const* x, int64_t n, float* const* y);
  /// y[t] = down(silu(gate x[t]) * up x[t]). Likewise.
  void GatedMlp(WorkerPool& pool, const MlpWeights& w, const float* const* x, int64_t n, float* const* y);
  /// Memory for the two calls above: inputs of `columns` and inner values of `inner` columns, 0 for none.
  void Reserve(int64_t rows, int64_t columns, int64_t inner);
  static double ReserveBytes(double rows, double columns, double inner) {
    return 4 * rows * (columns + inner);
  }

  // The parts, for callers that arrange their own waves.

  /// Panels of n rows for a matrix in `format`, and the bytes of all of them for a matrix of `columns`.
  int64_t Panels(WeightFormat format, int64_t n) const;
  int64_t PanelBytes(WeightFormat format, int64_t n, int64_t columns) const;
  /// Packs panel `panel` of the rows x[0, n).
  void Pack(WeightFormat format, const float* const* x, int64_t n, int64_t columns, int64_t panel,
            std::byte* panels) const;

  /// Rows of a task's tile, so that `items` matrices of `rows` rows make tasks enough for `threads`.
  int64_t TileRows(WeightFormat format, int64_t rows, int64_t items, int threads) const;

  /// hidden = silu(gate x) * up x for rows [begin, end) of both, at most TileRows of them, into positions
  /// hidden_begin + [begin, end) of panels of `hidden_columns` columns. `x` and `hidden` are panels of n
  /// rows. Positions of one pair (2 i, 2 i + 1) belong to one task: begin is even. The task that ends at
  /// hidden_columns writes the padding.
  void GateUp(const MlpWeights& w, int64_t begin, int64_t end, const std::byte* x, int64_t n,
              std::byte* hidden, int64_t hidden_begin, int64_t hidden_columns, int worker);
  /// y[t][y_begin + r] = (W x[t])[r], or += gains[t] times it where gains is not null, for r in [begin, end),
  /// at most TileRows of them.
  void Product(const MatView& w, int64_t begin, int64_t end, const std::byte* x, int64_t n,
               const float* gains, float* const* y, int64_t y_begin, int worker);

  /// Bytes of a packed value.
  int64_t ValueBytes(WeightFormat format) const { return Bytes(For(format).gemm->type()); }
  /// The smallest n that Takes says yes to.
  int64_t MinRows(WeightFormat format) const;

  /// Counts work done elsewhere, for the report.
  void CountOther(double flops) { other_flops_ += flops; }
  GemmReport Report() const;

  /// Bytes the object itself takes.
  static double WorkerBytes(int workers);

 private:
  // Products of one type, with the kernels around them.
  struct Engine {
    std::unique_ptr<TileGemm> gemm;
    const TileKernels* kernels = nullptr;
    std::vector<int64_t> tile_rows;  // largest first
    int64_t min_rows = 0;            // the switch-over
    int64_t min_rows_integer = 0;    // of formats whose kernels multiply int8
    std::vector<int64_t> columns;    // prepared
  };
  // One worker's cache-sized memory.
  struct Scratch {
    AlignedBytes tile;
    AlignedBytes sums;   // of gate, or of the product
    AlignedBytes other;  // of up
  };

  explicit PrefillGemm(int workers);
  static Result<Engine> MakeEngine(const Options& options, GemmType type);
  const Engine& For(WeightFormat format) const;
  int64_t FittingRows(const Engine& engine, int64_t rows) const;
  void Accumulate(const Engine& engine, const MatView& w, int64_t begin, int64_t end, const std::byte* x,
                  int64_t n, int64_t first_panel, int64_t last_panel, std::byte* tile, float* sums,
                  int worker);

  std::vector<Engine> engines_;  // one, or two: bf16 and the f32 for weights that bf16 would round
  std::vector<Scratch> scratch_;
  AlignedBytes inputs_;
  AlignedBytes hidden_;
  double other_flops_ = 0;
  std::vector<std::string> refused_;
};

}  // namespace moraine
