#include "cpu/gemm/prefill_gemm.h"

#include <algorithm>
#include <cstring>

#include "cpu/kernel_table.h"
#include "cpu/worker_pool.h"
#include "runtime/core/check.h"

namespace moraine {
namespace {

// Columns of a tile. 128 rows of it in bf16, or 64 in f32, are 256 KiB: half of the smallest L2 in use (512
// KiB, Zen 3); the panel's part beside it is at most as much. Half the depth costs 2 % on Sapphire Rapids,
// twice the depth 10 %.
constexpr int64_t kDepth = 1024;
constexpr int64_t kTileBytes = int64_t{256} << 10;
// Rows of x whose sums are kept at once: 128 x 512 of them are 256 KiB, and a tile decoded once for 512 rows
// has cost under a tenth of its products.
constexpr int64_t kGroupRows = 512;

int64_t PaddedDepth(int64_t columns) {
  return (columns + TileGemm::kDepthUnit - 1) / TileGemm::kDepthUnit * TileGemm::kDepthUnit;
}

// How n rows fall into panels: all but the last have the largest width.
struct Cut {
  Cut(const TileGemm& gemm, int64_t n) : full(gemm.Widths().back()), panels((n + full - 1) / full) {
    const int64_t rest = n - (panels - 1) * full;
    last = *std::find_if(gemm.Widths().begin(), gemm.Widths().end(), [&](int64_t w) { return w >= rest; });
  }
  int64_t Width(int64_t panel) const { return panel + 1 < panels ? full : last; }
  int64_t Columns() const { return (panels - 1) * full + last; }
  int64_t full;
  int64_t panels;
  int64_t last = 0;
};

constexpr bool NeedsF32(WeightFormat format) {
  return format == WeightFormat::kF32 || format == WeightFormat::kF16;
}

}  // namespace

std::optional<GemmIsa> GemmIsaFor(std::string_view isa) {
  if (isa == Name(Isa::kScalar)) return std::nullopt;
  if (isa == "auto" || isa == Name(Isa::kAmx)) return GemmIsa::kAny;
  return isa == Name(Isa::kAvx2) ? GemmIsa::kAvx2 : GemmIsa::kAvx512;
}

PrefillGemm::PrefillGemm(int workers) : scratch_(static_cast<size_t>(workers)) {
  for (Scratch& s : scratch_) {
    s.tile = AlignedBytes(kTileBytes);
    s.sums = AlignedBytes(kTileBytes);
    s.other = AlignedBytes(kTileBytes);
  }
}

double PrefillGemm::WorkerBytes(int workers) { return 3.0 * kTileBytes * workers; }

Result<PrefillGemm::Engine> PrefillGemm::MakeEngine(const Options& options, GemmType type) {
  Engine engine;
  MORAINE_ASSIGN_OR_RETURN(engine.gemm, TileGemm::Create(options.isa, options.workers, type));
  engine.kernels = &SelectTileKernels(type);
  // Where the fewest rows of oneDNN, padded to 16, took as long as the kernels of kernel_table.h did for this
  // many: bench_experts --switch-over at R1's geometry, on Sapphire Rapids (2 cores) as it is and with --isa
  // avx2. AVX-512 without AMX goes by the AVX2 figures.
  const bool bf16 = type == GemmType::kBf16;
  engine.min_rows = options.min_rows > 0 ? options.min_rows : bf16 ? 21 : 10;
  engine.min_rows_integer = options.min_rows > 0 ? options.min_rows : bf16 ? 12 : 20;
  if (!engine.gemm->any_shape()) {
    engine.tile_rows = {64};
  } else if (type == GemmType::kF32) {
    engine.tile_rows = {64, 32};
  } else {
    engine.tile_rows = {128, 64, 32};
  }
  return engine;
}

Result<std::unique_ptr<PrefillGemm>> PrefillGemm::Create(const Options& options) {
  std::unique_ptr<PrefillGemm> made(new PrefillGemm(options.workers));
  MORAINE_ASSIGN_OR_RETURN(const std::unique_ptr<TileGemm> fastest,
                           TileGemm::Create(options.isa, options.workers));
  for (const GemmType type : {GemmType::kF32, GemmType::kBf16}) {
    if (type == GemmType::kBf16 && (options.f32_only || fastest->type() != type)) continue;
    MORAINE_ASSIGN_OR_RETURN(Engine engine, MakeEngine(options, type));
    made->engines_.push_back(std::move(engine));
  }
  return made;
}

const PrefillGemm::Engine& PrefillGemm::For(WeightFormat format) const {
  return NeedsF32(format) ? engines_.front() : engines_.back();
}

void PrefillGemm::Prepare(WeightFormat format, int64_t columns) {
  auto& engine = const_cast<Engine&>(For(format));
  if (std::find(engine.columns.begin(), engine.columns.end(), columns) != engine.columns.end()) return;
  const int64_t depth = PaddedDepth(columns);
  for (const int64_t rows : engine.tile_rows) {
    for (const int64_t part : {depth >= kDepth ? kDepth : 0, depth % kDepth}) {
      if (part == 0) continue;
      if (const Status made = engine.gemm->Prepare(rows, part); !made.has_value()) {
        refused_.push_back(made.error().message);
        return;
      }
    }
  }
  engine.columns.push_back(columns);
}

int64_t PrefillGemm::MinRows(WeightFormat format) const {
  return IsInteger(format) ? For(format).min_rows_integer : For(format).min_rows;
}

bool PrefillGemm::Takes(const MatView& w, int64_t n) const {
  const Engine& engine = For(w.format);
  return n >= MinRows(w.format) &&
         std::find(engine.columns.begin(), engine.columns.end(), w.columns) != engine.columns.end();
}

bool PrefillGemm::Takes(const MlpWeights& w, int64_t n) const {
  const Engine* engine = &For(w.gate.format);
  return engine == &For(w.up.format) && engine == &For(w.down.format) && Takes(w.gate, n) && Takes(w.down, n);
}

int64_t PrefillGemm::Panels(WeightFormat format, int64_t n) const { return Cut(*For(format).gemm, n).panels; }

int64_t PrefillGemm::PanelBytes(WeightFormat format, int64_t n, int64_t columns) const {
  const TileGemm& gemm = *For(format).gemm;
  return Cut(gemm, n).Columns() * PaddedDepth(columns) * Bytes(gemm.type());
}

void PrefillGemm::Pack(WeightFormat format, const float* const* x, int64_t n, int64_t columns, int64_t panel,
                       std::byte* panels) const {
  const Engine& engine = For(format);
  const Cut cut(*engine.gemm, n);
  const int64_t first = panel * cut.full;
  engine.kernels->pack(x + first, std::min(n - first, cut.Width(panel)), columns, cut.Width(panel),
                       panels + first * PaddedDepth(columns) * Bytes(engine.gemm->type()));
}

int64_t PrefillGemm::TileRows(WeightFormat format, int64_t rows, int64_t items, int threads) const {
  const std::vector<int64_t>& choices = For(format).tile_rows;
  // A few tasks a thread, so that the last of them leave little time idle.
  for (const int64_t tile : choices) {
    if ((rows + tile - 1) / tile * items >= int64_t{4} * threads) return tile;
  }
  return choices.back();
}

int64_t PrefillGemm::FittingRows(const Engine& engine, int64_t rows) const {
  int64_t fitting = engine.tile_rows.front();
  MORAINE_CHECK(rows <= fitting);
  for (const int64_t tile : engine.tile_rows) fitting = tile >= rows ? tile : fitting;
  return fitting;
}

// sums[panel][tile rows][width] = rows [begin, end) of W times panels [first_panel, last_panel) of x.
void PrefillGemm::Accumulate(const Engine& engine, const MatView& w, int64_t begin, int64_t end,
                             const std::byte* x, int64_t n, int64_t first_panel, int64_t last_panel,
                             std::byte* tile, float* sums, int worker) {
  const Cut cut(*engine.gemm, n);
  const int64_t bytes = Bytes(engine.gemm->type());
  const int64_t depth = PaddedDepth(w.columns);
  const int64_t tile_rows = FittingRows(engine, end - begin);
  for (int64_t k = 0; k < depth; k += kDepth) {
    const int64_t part = std::min(kDepth, depth - k);
    engine.kernels->Decode(w.format)(w, {begin, end - begin, k, std::min(part, w.columns - k), part}, tile);
    std::memset(tile + (end - begin) * part * bytes, 0,
                static_cast<size_t>((tile_rows - (end - begin)) * part * bytes));
    for (int64_t p = first_panel; p < last_panel; ++p) {
      const std::byte* panel = x + (p * cut.full * depth + k * cut.Width(p)) * bytes;
      engine.gemm->Run(tile_rows, part, cut.Width(p), k > 0, tile, panel,
                       sums + (p - first_panel) * tile_rows * cut.full, worker);
    }
  }
}

void PrefillGemm::GateUp(const MlpWeights& w, int64_t begin, int64_t end, const std::byte* x, int64_t n,
                         std::byte* hidden, int64_t hidden_begin, int64_t hidden_columns, int worker) {
  const Engine& engine = For(w.gate.format);
  const Cut cut(*engine.gemm, n);
  Scratch& s = scratch_[static_cast<size_t>(worker)];
  auto* gate = reinterpret_cast<float*>(s.sums.data());
  auto* up = reinterpret_cast<float*>(s.other.data());
  const int64_t bytes = Bytes(engine.gemm->type());
  const int64_t tile_rows = FittingRows(engine, end - begin);
  const int64_t depth = PaddedDepth(hidden_columns);
  const int64_t position = hidden_begin + begin;
  const bool last = hidden_begin + end == hidden_columns;
  for (int64_t p = 0; p < cut.panels; p += kGroupRows / cut.full) {
    const int64_t to = std::min(cut.panels, p + kGroupRows / cut.full);
    Accumulate(engine, w.gate, begin, end, x, n, p, to, s.tile.data(), gate, worker);
    Accumulate(engine, w.up, begin, end, x, n, p, to, s.tile.data(), up, worker);
    for (int64_t q = p; q < to; ++q) {
      const int64_t width = cut.Width(q);
      std::byte* panel = hidden + q * cut.full * depth * bytes;
      const int64_t at = (q - p) * tile_rows * cut.full;
      engine.kernels->silu(gate + at, up + at, end - begin, width, panel + position * width * bytes);
      if (last) {
        const int64_t written = (hidden_columns + 1) / 2 * 2;  // an odd last position has its pair
        const int64_t from = bytes == 2 ? written : hidden_columns;
        std::memset(panel + from * width * bytes, 0, static_cast<size_t>((depth - from) * width * bytes));
      }
    }
  }
}

void PrefillGemm::Product(const MatView& w, int64_t begin, int64_t end, const std::byte* x, int64_t n,
                          const float* gains, float* const* y, int64_t y_begin, int worker) {
  const Engine& engine = For(w.format);
  const Cut cut(*engine.gemm, n);
  Scratch& s = scratch_[static_cast<size_t>(worker)];
  auto* sums = reinterpret_cast<float*>(s.sums.data());
  const int64_t tile_rows = FittingRows(engine, end - begin);
  for (int64_t p = 0; p < cut.panels; p += kGroupRows / cut.full) {
    const int64_t to = std::min(cut.panels, p + kGroupRows / cut.full);
    Accumulate(engine, w, begin, end, x, n, p, to, s.tile.data(), sums, worker);
    for (int64_t q = p; q < to; ++q) {
      const int64_t first = q * cut.full;
      const int64_t rows = std::min(n - first, cut.Width(q));
      std::array<float*, TileGemm::kMaxWidth> at;
      for (int64_t t = 0; t < rows; ++t) at[static_cast<size_t>(t)] = y[first + t] + y_begin + begin;
      engine.kernels->store(sums + (q - p) * tile_rows * cut.full, end - begin, cut.Width(q), rows,
                            gains == nullptr ? nullptr : gains + first, at.data());
    }
  }
}

void PrefillGemm::Reserve(int64_t rows, int64_t columns, int64_t inner) {
  const auto grow = [&](int64_t width, AlignedBytes* memory) {
    int64_t bytes = 0;
    for (int format = 0; format < kWeightFormats; ++format)
      bytes = std::max(bytes, PanelBytes(static_cast<WeightFormat>(format), rows, width));
    if (width > 0 && memory->bytes() < bytes) *memory = AlignedBytes(bytes);
  };
  grow(columns, &inputs_);
  grow(inner, &hidden_);
}

void PrefillGemm::Multiply(WorkerPool& pool, const MatView& w, const float* const* x, int64_t n,
                           float* const* y) {
  MORAINE_CHECK(inputs_.bytes() >= PanelBytes(w.format, n, w.columns));
  pool.ParallelFor(Panels(w.format, n),
                   [&](int64_t panel, int) { Pack(w.format, x, n, w.columns, panel, inputs_.data()); });
  const int64_t rows = TileRows(w.format, w.rows, 1, pool.threads());
  pool.ParallelFor((w.rows + rows - 1) / rows, [&](int64_t task, int worker) {
    const int64_t begin = task * rows;
    Product(w, begin, std::min(begin + rows, w.rows), inputs_.data(), n, nullptr, y, 0, worker);
  });
}

void PrefillGemm::GatedMlp(WorkerPool& pool, const MlpWeights& w, const float* const* x, int64_t n,
                           float* const* y) {
  const WeightFormat format = w.gate.format;
  MORAINE_CHECK(inputs_.bytes() >= PanelBytes(format, n, w.gate.columns));
  MORAINE_CHECK(hidden_.bytes() >= PanelBytes(format, n, w.down.columns));
  pool.ParallelFor(Panels(format, n),
                   [&](int64_t panel, int) { Pack(format, x, n, w.gate.columns, panel, inputs_.data()); });
  const int64_t inner = w.gate.rows;
  const int64_t rows = TileRows(format, inner, 1, pool.threads());
  pool.ParallelFor((inner + rows - 1) / rows, [&](int64_t task, int worker) {
    GateUp(w, task * rows, std::min((task + 1) * rows, inner), inputs_.data(), n, hidden_.data(), 0, inner,
           worker);
  });
  const int64_t down_rows = TileRows(format, w.down.rows, 1, pool.threads());
  pool.ParallelFor((w.down.rows + down_rows - 1) / down_rows, [&](int64_t task, int worker) {
    const int64_t begin = task * down_rows;
    Product(w.down, begin, std::min(begin + down_rows, w.down.rows), hidden_.data(), n, nullptr, y, 0,
            worker);
  });
}

GemmReport PrefillGemm::Report() const {
  GemmReport report{.made = {}, .refused = refused_, .gemm_flops = 0, .other_flops = other_flops_};
  for (const Engine& engine : engines_) {
    for (GemmUse& use : engine.gemm->Uses()) {
      report.gemm_flops += use.Flops();
      report.made.push_back(std::move(use));
    }
  }
  return report;
}

}  // namespace moraine
