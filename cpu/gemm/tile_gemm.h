// Dense products of one tile through oneDNN, each called with one thread: the only file that knows oneDNN.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cpu/gemm/gemm_report.h"
#include "runtime/core/result.h"

namespace moraine {

inline int64_t Bytes(GemmType type) { return type == GemmType::kF32 ? 4 : 2; }

/// The most oneDNN may use. A cap counts for the whole process and only if it comes before oneDNN's first
/// use.
enum class GemmIsa : uint8_t { kAvx2, kAvx512, kAny };

/// C[rows, width] = or += A[rows, depth] B[depth, width]. A holds decoded weights, row-major. B holds
/// activations of `width` rows of a step, one column each: f32 as [depth][width], bf16 as
/// [depth / 2][width][2], so that neither side is ever repacked. C is f32, row-major. No gaps between rows:
/// oneDNN's fast implementations refuse them. All 64-byte aligned.
///
/// The sum of one output is formed in an order that depends on depth alone: the same bits for any width, rows
/// and place in the tile. On AVX2 oneDNN picks the order by shape, so there is one width and callers keep to
/// one number of rows: then the place in the tile does not matter (tests/cpu/tile_gemm_test.cc).
class TileGemm {
 public:
  static constexpr std::array<int64_t, 4> kWidths = {16, 32, 48, 64};
  static constexpr int64_t kMaxWidth = kWidths.back();
  static constexpr int64_t kDepthUnit = 32;  // depth is a multiple of this: pad with zeros

  /// For workers [0, workers). The type is the one that is fastest on this CPU within `isa`, or `type`.
  /// kHardware when this build or CPU has none, or when oneDNN was already used under a wider cap in this
  /// process.
  static Result<std::unique_ptr<TileGemm>> Create(GemmIsa isa, int workers,
                                                  std::optional<GemmType> type = std::nullopt);
  virtual ~TileGemm() = default;

  GemmType type() const { return type_; }
  /// True when neither width nor rows change a bit. Otherwise kWidths[0] alone may be run.
  bool any_shape() const { return any_shape_; }
  std::span<const int64_t> Widths() const {
    return std::span(kWidths).first(any_shape_ ? kWidths.size() : 1);
  }

  /// Makes the products of tiles of `rows` x `depth` at every width and compares each with plain arithmetic,
  /// once. kInternal when oneDNN has only its reference implementation or computes wrongly: names it. Not
  /// while Run is under way.
  virtual Status Prepare(int64_t rows, int64_t depth) = 0;

  /// A prepared product; REQUIRES Prepare(rows, depth) and a width of Widths(). Workers may run at once, each
  /// under its own number. Our side allocates and locks nothing; oneDNN fills a short list of arguments a
  /// call.
  virtual void Run(int64_t rows, int64_t depth, int64_t width, bool add, const void* a, const void* b,
                   float* c, int worker) noexcept = 0;

  /// Every product made. Not while Run is under way.
  virtual std::vector<GemmUse> Uses() const = 0;

 protected:
  TileGemm(GemmType type, bool any_shape) : type_(type), any_shape_(any_shape) {}

 private:
  GemmType type_;
  bool any_shape_;
};

}  // namespace moraine
