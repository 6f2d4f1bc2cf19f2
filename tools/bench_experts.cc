// bench_experts: how fast routed experts run on this CPU, beside how fast its memory can be read at all.
//
//   bench_experts [--formats LIST] [--isa LIST] [--tokens LIST] [--prefill LIST] [--threads N] [--gib N]
//   [--seconds N] [--idle-seconds N] [--switch-over] [--json]
//
// R1's geometry (H 7168, I 2048, 8 experts a layer), with so many distinct experts that no cache holds them.
// bound: the same memory read by the same workers, measured in turn with the experts; each figure is the
// median of the rounds, and the share is the median of the rounds' own shares.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>

#include "cpu/cpu_experts.h"
#include "cpu/gemm/prefill_gemm.h"
#include "cpu/kernel_table.h"
#include "cpu/topology.h"
#include "cpu/worker_pool.h"
#include "tools/bench/bench_main.h"
#include "tools/bench/expert_bank.h"
#include "tools/bench/layer_run.h"
#include "tools/bench/pool_bench.h"
#include "tools/bench/prefill_bench.h"
#include "tools/bench/read_bandwidth.h"
#include "tools/bench/switch_over.h"
#include "tools/commands.h"

namespace moraine::tools {
namespace {

constexpr ExpertSize kSize = kR1Expert;
constexpr int32_t kTopK = 8;

struct Options {
  std::vector<std::string> formats = {"fp8", "bf16", "int8-g128", "int4-g64", "int4-g128"};
  std::vector<std::string> isas;
  std::vector<int32_t> tokens = {1, 2, 4, 8};
  std::vector<int32_t> prefill;
  int threads = 0;
  double gib = 2.5;
  double seconds = 1.0;
  double idle_seconds = 3.0;
  int rounds = 5;
  bool switch_over = false;
  bool json = false;
};

struct Row {
  std::string format;
  std::string isa;
  int32_t tokens = 0;
  double layer_us = 0;
  double gb_s = 0;       // weights and scales read
  double read_gb_s = 0;  // what the same workers read plainly, in turn
  double share = 0;
  double tokens_s = 0;  // rows through one layer a second
};

Row Measure(const Options& options, const FormatChoice& choice, const ExpertBank& bank,
            const KernelSet& kernels, WorkerPool& pool, int32_t tokens) {
  const ModelShape shape = LayerShape(kSize, kTopK);
  CpuExperts experts(shape, tokens, {{choice.format}}, kernels, &pool);
  LayerRun run(bank, kSize, kTopK, tokens);
  std::vector<double> share;
  std::vector<double> speed;
  std::vector<double> bound;
  std::vector<double> layer;
  run.Run(experts, 0.05);
  for (int round = 0; round < options.rounds; ++round) {
    const double part = options.seconds / options.rounds;
    bound.push_back(ReadBandwidth(pool, bank.bytes(), part / 2));
    const LayerTimes times = run.Run(experts, part);
    bound.back() = std::max(bound.back(), ReadBandwidth(pool, bank.bytes(), part / 2));
    speed.push_back(times.bytes / times.seconds);
    share.push_back(speed.back() / bound.back());
    layer.push_back(times.Seconds());
  }
  return {.format = choice.name,
          .isa = std::string(Name(kernels.IsaFor(choice.format, tokens))),
          .tokens = tokens,
          .layer_us = 1e6 * Median(layer),
          .gb_s = 1e-9 * Median(speed),
          .read_gb_s = 1e-9 * Median(bound),
          .share = Median(share),
          .tokens_s = tokens / Median(layer)};
}

// A layer whose experts weigh next to nothing: what is left is waking the workers, two barriers and the
// bookkeeping.
double OverheadUs(const KernelSet& kernels, WorkerPool& pool) {
  const ModelShape shape = LayerShape({.hidden = 32, .inner = 32}, kTopK);
  std::vector<float> weights(32 * 32, 0.01f);
  const MatView view{.data = reinterpret_cast<const std::byte*>(weights.data()),
                     .format = WeightFormat::kF32,
                     .rows = 32,
                     .columns = 32,
                     .row_bytes = 128};
  const ExpertSlice slice{.weights = {view, view, view}};
  CpuExperts experts(shape, 1, {}, kernels, &pool);
  const std::vector<float> input(32, 1.f);
  const int32_t row = 0;
  const float gain = 1.f;
  std::vector<ExpertWork> work(kTopK);
  for (int32_t k = 0; k < kTopK; ++k) {
    work[static_cast<size_t>(k)] = {
        .expert = ExpertId{k}, .slices = {&slice, 1}, .rows = {&row, 1}, .gains = {&gain, 1}, .ready = {}};
  }
  std::vector<double> rounds;
  for (int round = 0; round < 51; ++round) {
    constexpr int kLayers = 200;
    const double start = Seconds();
    for (int i = 0; i < kLayers; ++i) {
      (void)experts.Run({.layer = LayerId{0}, .rows = 1, .inputs = input.data(), .work = work});
    }
    rounds.push_back(1e6 * (Seconds() - start) / kLayers);
  }
  return Median(rounds);
}

// oneDNN as far as `isa` allows.
Result<std::unique_ptr<PrefillGemm>> MakeGemm(const std::string& isa, const WorkerPool& pool,
                                              int64_t min_rows = 0) {
  const std::optional<GemmIsa> most = GemmIsaFor(isa);
  if (!most) return Fail(ErrorKind::kHardware, "isa \"scalar\" keeps to the scalar kernels");
  return PrefillGemm::Create({.isa = *most, .workers = pool.threads(), .min_rows = min_rows});
}

// Prints and collects one row for each of options.prefill.
Status RunPrefill(const Options& options, const FormatChoice& choice, const ExpertBank& bank,
                  KernelSet kernels, const std::string& isa, WorkerPool& pool, nlohmann::ordered_json* out) {
  if (options.prefill.empty()) return {};
  MORAINE_ASSIGN_OR_RETURN(const std::unique_ptr<PrefillGemm> gemm, MakeGemm(isa, pool));
  kernels.gemm = gemm.get();
  const PrefillBench bench{.format = choice.name,
                           .weight_format = choice.format,
                           .expert = [&](int64_t e) { return bank.expert(e); },
                           .experts = bank.count(),
                           .seconds = options.seconds,
                           .rounds = options.rounds};
  MORAINE_ASSIGN_OR_RETURN(const std::vector<PrefillRow> rows,
                           MeasurePrefill(bench, kernels, pool, options.prefill));
  for (const PrefillRow& row : rows) {
    (*out)["rows"].push_back({{"phase", "prefill"},
                              {"format", row.format},
                              {"isa", row.implementation},
                              {"tokens", row.tokens},
                              {"gflops", row.gflops},
                              {"plain_gflops", row.plain_gflops},
                              {"share_of_plain_gemm", row.share}});
    if (options.json) continue;
    fmt::print("{:<10} {:<20} {:>5} rows each {:>8.0f} GFLOP/s, plain {:>8.0f}: {:>6.1f}%\n", row.format,
               row.implementation, row.tokens, row.gflops, row.plain_gflops, 100 * row.share);
    std::fflush(stdout);
  }
  return {};
}

// From how many rows on tiles are faster here, our own or oneDNN's, and what is set.
Status RunSwitchOver(const Options& options, const FormatChoice& choice, const ExpertBank& bank,
                     const KernelSet& set, const std::string& isa, WorkerPool& pool,
                     nlohmann::ordered_json* out) {
  MORAINE_ASSIGN_OR_RETURN(const std::unique_ptr<PrefillGemm> gemm, MakeGemm(isa, pool, 1));
  MORAINE_ASSIGN_OR_RETURN(const std::unique_ptr<PrefillGemm> as_set, MakeGemm(isa, pool));
  const bool own = set.HasTile(choice.format);
  KernelSet few = set;
  few.q8_tile.fill(nullptr);
  KernelSet many = set;
  many.q8_tile_rows.fill(1);
  many.gemm = gemm.get();
  const ModelShape shape = LayerShape(kSize, kTopK);
  const auto seconds = [&](const KernelSet& kernels) {
    return [&](int32_t rows) {
      CpuExperts experts(shape, rows, {{choice.format}}, kernels, &pool);
      LayerRun run(bank, kSize, kTopK, rows);
      run.Run(experts, 0.02);
      return run.Run(experts, options.seconds / options.rounds / 2).Seconds();
    };
  };
  const SwitchOver measured = MeasureSwitchOver(seconds(few), seconds(many), options.rounds);
  const int64_t now =
      own ? set.q8_tile_rows[static_cast<size_t>(choice.format)] : as_set->MinRows(choice.format);
  nlohmann::ordered_json row = {
      {"phase", "switch-over"}, {"format", choice.name}, {"isa", isa}, {"set", now}};
  row["rows"] = measured.rows.has_value() ? nlohmann::ordered_json(*measured.rows) : nlohmann::ordered_json();
  for (const SwitchOver::Point& point : measured.points)
    row["points"].push_back(
        {{"rows", point.rows}, {"kernel_us", point.kernel_us}, {"tile_us", point.tile_us}});
  (*out)["rows"].push_back(row);
  if (options.json) return {};
  for (const SwitchOver::Point& point : measured.points)
    fmt::print("{:<10} {:<12} {:>6} {:>10.0f} us by kernels, {:>8.0f} us by {}\n", choice.name, isa,
               point.rows, point.kernel_us, point.tile_us, own ? "our tiles" : "oneDNN");
  fmt::print("{:<10} {:<12} switch over at {} rows; set: {}\n", choice.name, isa,
             measured.rows.has_value() ? fmt::format("{}", *measured.rows) : "more than 32", now);
  std::fflush(stdout);
  return {};
}

// What the pool costs beside its work, into `out` and on the terminal.
void RunPool(const Options& options, WorkerPool& pool, nlohmann::ordered_json* out) {
  constexpr int kJobs = 20000;
  constexpr double kStepGapUs = 2;     // between two waves of a layer
  constexpr double kSleepGapUs = 500;  // workers have gone to sleep
  constexpr int kSleepingJobs = 2000;
  MeasureJobs(pool, kJobs / 10, kStepGapUs);
  const JobTimes awake = MeasureJobs(pool, kJobs, kStepGapUs);
  const JobTimes asleep = MeasureJobs(pool, kSleepingJobs, kSleepGapUs);
  const double idle = IdleShare(pool, options.idle_seconds);
  (*out)["job_us"] = {{"median", awake.median_us}, {"p99", awake.p99_us}};
  (*out)["job_asleep_us"] = {{"median", asleep.median_us}, {"p99", asleep.p99_us}};
  (*out)["idle_cpu_share"] = idle;
  if (options.json) return;
  fmt::print(
      "{} threads, wake-up and barrier: {:.2f} us (99 of 100 under {:.2f}); of sleeping ones {:.1f} us "
      "({:.1f})\n",
      pool.threads(), awake.median_us, awake.p99_us, asleep.median_us, asleep.p99_us);
  fmt::print("idle: {:.4f} % of one processor over {:.1f} s\n", 100 * idle, options.idle_seconds);
}

// Room for `gib` of experts, and for a layer's twice over.
Result<NodeMemory> BankMemory(const Topology& topology, const FormatChoice& choice, double gib) {
  const int64_t expert = ExpertBank::ExpertBytes(choice, kSize);
  const auto count =
      std::max<int64_t>(2 * kTopK, static_cast<int64_t>(gib * 0x1p30 / static_cast<double>(expert)));
  return topology.Allocate(count * expert, NodeId{0});
}

Status RunBench(const Options& options) {
  for (const std::string& name : options.formats) MORAINE_RETURN_IF_ERROR(ParseFormatChoice(name));
  for (const std::string& isa : options.isas) MORAINE_RETURN_IF_ERROR(SelectKernels(isa));
  MORAINE_ASSIGN_OR_RETURN(const std::unique_ptr<Topology> topology, Topology::Read());
  const int threads = options.threads == 0 ? topology->cores() : options.threads;
  // One queue for all: the bank is one block, and what is compared is one machine's memory.
  std::vector<WorkerPlace> places = topology->Place(threads);
  for (WorkerPlace& place : places) place.node = NodeId{0};
  WorkerPool pool(places);
  nlohmann::ordered_json out = {
      {"schema", 1}, {"threads", threads}, {"rows", nlohmann::ordered_json::array()}};
  MORAINE_ASSIGN_OR_RETURN(const KernelSet best, SelectKernels("auto"));
  RunPool(options, pool, &out);
  const double overhead = OverheadUs(best, pool);
  out["layer_overhead_us"] = overhead;
  if (!options.json) {
    fmt::print("a layer of empty experts: {:.1f} us\n", overhead);
    fmt::print("{:<10} {:<12} {:>6} {:>10} {:>9} {:>9} {:>7} {:>10}\n", "format", "isa", "tokens", "layer us",
               "GB/s", "bound", "share", "rows/s");
  }
  for (const std::string& name : options.formats) {
    MORAINE_ASSIGN_OR_RETURN(const FormatChoice choice, ParseFormatChoice(name));
    MORAINE_ASSIGN_OR_RETURN(const NodeMemory memory, BankMemory(*topology, choice, options.gib));
    const ExpertBank bank({memory.data(), static_cast<size_t>(memory.bytes())}, choice, kSize, pool);
    std::vector<std::string> isas = options.isas;
    if (isas.empty()) isas = {"auto"};
    for (const std::string& isa : isas) {
      MORAINE_ASSIGN_OR_RETURN(const KernelSet kernels, SelectKernels(isa));
      if (options.switch_over) {
        MORAINE_RETURN_IF_ERROR(RunSwitchOver(options, choice, bank, kernels, isa, pool, &out));
        continue;
      }
      MORAINE_RETURN_IF_ERROR(RunPrefill(options, choice, bank, kernels, isa, pool, &out));
      for (const int32_t tokens : options.tokens) {
        const Row row = Measure(options, choice, bank, kernels, pool, tokens);
        out["rows"].push_back({{"phase", "decode"},
                               {"format", row.format},
                               {"isa", row.isa},
                               {"tokens", row.tokens},
                               {"layer_us", row.layer_us},
                               {"gb_s", row.gb_s},
                               {"read_gb_s", row.read_gb_s},
                               {"share_of_read_bandwidth", row.share},
                               {"rows_s", row.tokens_s}});
        if (options.json) continue;
        fmt::print("{:<10} {:<12} {:>6} {:>10.0f} {:>9.2f} {:>9.2f} {:>6.1f}% {:>10.1f}\n", row.format,
                   row.isa, row.tokens, row.layer_us, row.gb_s, row.read_gb_s, 100 * row.share, row.tokens_s);
        std::fflush(stdout);
      }
    }
  }
  if (options.json) fmt::print("{}\n", out.dump());
  return {};
}

}  // namespace
}  // namespace moraine::tools

int main(int argc, char** argv) {
  using namespace moraine;
  using namespace moraine::tools;
  Options options;
  CLI::App app("How fast routed experts run on this CPU, beside how fast its memory can be read.");
  app.add_option("--formats", options.formats,
                 "fp8, bf16, f16, f32, int8-row, int8-g32/g64/g128, int4-g32/g64/g128")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--isa", options.isas,
                 "Kernels: auto, amx, avx512-vbmi, avx512-vnni, avx512, avx2, scalar (default: the "
                 "best here)")
      ->delimiter(',');
  app.add_option("--tokens", options.tokens, "Rows that choose the same experts")
      ->delimiter(',')
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--prefill", options.prefill,
                 "Rows of each expert through tiles, beside oneDNN's plain products")
      ->delimiter(',')
      ->check(CLI::Range(1, 4096));
  app.add_option("--threads", options.threads, "Workers (default: one a core)")->check(CLI::Range(0, 1024));
  app.add_option("--gib", options.gib, "Weights to spread the reads over")
      ->check(CLI::Range(0.1, 4096.0))
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "Time a row is measured")
      ->check(CLI::Range(0.01, 600.0))
      ->capture_default_str();
  app.add_option("--idle-seconds", options.idle_seconds, "Time the idle process is watched")
      ->check(CLI::Range(0.01, 600.0))
      ->capture_default_str();
  app.add_flag("--switch-over", options.switch_over,
               "Instead: from how many rows on tiles are faster, by format (for --switch-over of moraine)");
  app.add_flag("--json", options.json, "One JSON object on stdout");
  app.footer("\nExit codes: 0 ok, 2 usage, 4 hardware lacks the isa asked for, 5 internal.");
  return BenchMain(app, "bench_experts", argc, argv, [&] { return RunBench(options); });
}
