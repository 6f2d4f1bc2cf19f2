// bench_streamer: how fast random experts come off the drive, beside what fio gets from the same files.
//
//   bench_streamer [--dir DIR] [--gib N] [--sizes LIST] [--depth N] [--chunk-kib N] [--seconds N]
//   [--rounds N] [--registered] [--compare] [--sweep] [--keep] [--json]
//
// R1's experts: gate, up and down, 44.0 MB in FP8 and 24.8 MB at 4.5 bit, at any offset. Contenders take
// turns, since a drive's rate drifts; figures are medians of the rounds, ratios medians of the rounds' own.
//
// bound: fio's io_uring engine with O_DIRECT, at random places in runs as long as an expert, with the block
// size and depth it does best with here.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "storage/streamer.h"
#include "tools/bench/bench_main.h"
#include "tools/bench/expert_files.h"
#include "tools/bench/fio.h"
#include "tools/bench/read_bandwidth.h"
#include "tools/bench/stream_run.h"
#include "tools/interrupt.h"

namespace moraine::tools {
namespace {

using nlohmann::ordered_json;

struct Options {
  std::string dir = "bench_streamer.tmp";
  double gib = 8;
  std::vector<std::string> sizes = {"fp8", "int4"};
  int depth = StreamerOptions().depth;
  int64_t chunk_kib = StreamerOptions().chunk_bytes >> 10;
  bool registered = false;
  double seconds = 0.7;
  int rounds = 12;
  bool compare = false;
  bool sweep = false;
  bool keep = false;
  bool json = false;
};

// Experts being read at once: a layer's worth.
constexpr int kSlots = 8;

int64_t TensorBytes(const std::string& size) {
  const int64_t weights = int64_t{7168} * 2048;
  return size == "fp8" ? weights : weights * 9 / 16;
}

const char* NameOf(StreamBackendKind kind) {
  return kind == StreamBackendKind::kPread ? "pread threads" : "io_uring";
}

Result<std::unique_ptr<Streamer>> OpenStreamer(const Options& options, const ExpertFiles& files,
                                               StreamRun& run, StreamBackendKind kind) {
  StreamerOptions streamer{.backend = kind,
                           .depth = options.depth,
                           .background_depth = options.depth,
                           .chunk_bytes = options.chunk_kib << 10};
  if (options.registered) streamer.memory = {run.memory()};
  return Streamer::Open(files.files(), streamer);
}

double Of(const std::vector<StreamReading>& readings, double StreamReading::*what) {
  std::vector<double> values;
  values.reserve(readings.size());
  for (const StreamReading& reading : readings) values.push_back(reading.*what);
  return Median(std::move(values));
}

double RatioOf(const std::vector<StreamReading>& readings, const std::vector<FioReading>& bounds) {
  std::vector<double> ratios;
  for (size_t i = 0; i < readings.size(); ++i) ratios.push_back(readings[i].bytes_s / bounds[i].bytes_s);
  return Median(std::move(ratios));
}

class Bench {
 public:
  Bench(const Options& options, const ExpertFiles& files) : options_(options), files_(files) {}

  Result<ordered_json> Run() {
    ordered_json out{{"schema", 1},
                     {"gib", options_.gib},
                     {"depth", options_.depth},
                     {"chunk_kib", options_.chunk_kib},
                     {"rows", ordered_json::array()}};
    have_fio_ = HasFio();
    if (!options_.sweep && !options_.compare && !have_fio_) {
      Say("no fio here (apt-get install fio): nothing to compare with\n");
    }
    for (const std::string& size : options_.sizes) {
      MORAINE_ASSIGN_OR_RETURN(StreamRun run, StreamRun::Make(files_, TensorBytes(size), kSlots));
      MORAINE_RETURN_IF_ERROR(options_.sweep     ? Sweep(size, run, out)
                              : options_.compare ? Compare(size, run, out)
                                                 : Rate(size, run, out));
    }
    if (Interrupted()) return Fail(ErrorKind::kInterrupted, "interrupted");
    return out;
  }

 private:
  template <typename... Args>
  void Say(fmt::format_string<Args...> text, Args&&... args) const {
    if (!options_.json) fmt::print(text, std::forward<Args>(args)...);
  }

  // The best of a few, in several rounds: a drive's rate drifts.
  Status FindFioShape(int64_t run_bytes) {
    double best = 0;
    std::map<std::pair<int64_t, int>, double> seen;
    constexpr int kRounds = 3;
    for (int round = 0; round < kRounds; ++round) {
      for (const int64_t block_kib : {256, 512, 1024, 4096}) {
        for (const int depth : {8, 32}) {
          if (Interrupted()) return Fail(ErrorKind::kInterrupted, "interrupted");
          MORAINE_ASSIGN_OR_RETURN(const FioReading got,
                                   RunFio(files_.files(), {block_kib, depth, run_bytes}, kRampSeconds, 0.3));
          double& most = seen[{block_kib, depth}];
          most += got.bytes_s;
          if (round == kRounds - 1 && most > best) {
            best = most;
            fio_ = {block_kib, depth, run_bytes};
          }
        }
      }
    }
    return {};
  }

  Result<StreamReading> Steady(StreamRun& run, StreamBackendKind kind) {
    MORAINE_ASSIGN_OR_RETURN(const auto streamer, OpenStreamer(options_, files_, run, kind));
    how_[kind] = streamer->Describe();
    return run.Steady(*streamer, options_.seconds);
  }

  Status Rate(const std::string& size, StreamRun& run, ordered_json& out) {
    // fio, io_uring, pread: each follows each other one as often, since who was there before may leave the
    // host's cache in his debt.
    constexpr int kTurns[6][3] = {{0, 1, 2}, {2, 1, 0}, {1, 2, 0}, {0, 2, 1}, {2, 0, 1}, {1, 0, 2}};
    std::map<StreamBackendKind, std::vector<StreamReading>> readings;
    std::vector<FioReading> bounds;
    if (have_fio_) {
      MORAINE_RETURN_IF_ERROR(FindFioShape(3 * TensorBytes(size)));
      Say("fio does best with {} KiB x {}\n", fio_.block_kib, fio_.depth);
    }
    for (int round = 0; round < options_.rounds && !Interrupted(); ++round) {
      for (int turn = 0; turn < 3; ++turn) {
        const int who = kTurns[round % 6][turn];
        if (who == 0 && have_fio_) {
          MORAINE_ASSIGN_OR_RETURN(const FioReading got,
                                   RunFio(files_.files(), fio_, kRampSeconds, options_.seconds));
          bounds.push_back(got);
        } else if (who > 0) {
          const auto kind = who == 1 ? StreamBackendKind::kUring : StreamBackendKind::kPread;
          MORAINE_ASSIGN_OR_RETURN(const StreamReading got, Steady(run, kind));
          readings[kind].push_back(got);
        }
      }
    }
    if (Interrupted()) return {};
    Say("{} experts of {:.1f} MB, {} under way\n", size, 3e-6 * static_cast<double>(TensorBytes(size)),
        kSlots);
    for (const auto& [kind, all] : readings) {
      const double ratio = bounds.empty() ? 0 : RatioOf(all, bounds);
      ordered_json row{{"size", size},
                       {"backend", NameOf(kind)},
                       {"how", how_[kind]},
                       {"gb_s", 1e-9 * Of(all, &StreamReading::bytes_s)},
                       {"core", Of(all, &StreamReading::core)},
                       {"process_core", Of(all, &StreamReading::process)}};
      if (!bounds.empty()) row["of_fio"] = ratio;
      Say("  {:<14} {:6.3f} GB/s  {:5.1f} % of a core", NameOf(kind), 1e-9 * Of(all, &StreamReading::bytes_s),
          100 * Of(all, &StreamReading::process));
      Say("{}\n", bounds.empty() ? "" : fmt::format("  {:6.1f} % of fio", 100 * ratio));
      out["rows"].push_back(row);
    }
    if (bounds.empty()) return {};
    std::vector<double> rates;
    std::vector<double> cores;
    for (const FioReading& bound : bounds) {
      rates.push_back(1e-9 * bound.bytes_s);
      cores.push_back(bound.core);
    }
    out["rows"].push_back({{"size", size},
                           {"backend", "fio"},
                           {"block_kib", fio_.block_kib},
                           {"depth", fio_.depth},
                           {"gb_s", Median(rates)},
                           {"core", Median(cores)}});
    Say("  {:<14} {:6.3f} GB/s  {:5.1f} % of a core\n", "fio", Median(rates), 100 * Median(cores));
    return {};
  }

  // Every depth with every chunk size, io_uring.
  Status Sweep(const std::string& size, StreamRun& run, ordered_json& out) {
    constexpr int kDepths[] = {4, 8, 16, 32};
    constexpr int64_t kChunks[] = {256, 512, 1024, 2048};
    std::map<std::pair<int, int64_t>, std::vector<StreamReading>> readings;
    for (int round = 0; round < options_.rounds; ++round) {
      for (const int depth : kDepths) {
        for (const int64_t chunk_kib : kChunks) {
          if (Interrupted()) return {};
          Options shape = options_;
          shape.depth = depth;
          shape.chunk_kib = chunk_kib;
          MORAINE_ASSIGN_OR_RETURN(const auto streamer,
                                   OpenStreamer(shape, files_, run, StreamBackendKind::kUring));
          MORAINE_ASSIGN_OR_RETURN(const StreamReading got, run.Steady(*streamer, options_.seconds));
          readings[{depth, chunk_kib}].push_back(got);
        }
      }
    }
    Say("{} experts: GB/s and % of a core by depth (down) and chunk KiB (across)\n{:>6}", size, "");
    for (const int64_t chunk_kib : kChunks) Say("{:>16}", chunk_kib);
    Say("\n");
    for (const int depth : kDepths) {
      Say("{:>6}", depth);
      for (const int64_t chunk_kib : kChunks) {
        const auto& all = readings[{depth, chunk_kib}];
        const double gb_s = 1e-9 * Of(all, &StreamReading::bytes_s);
        Say("  {:6.3f} ({:4.1f}%)", gb_s, 100 * Of(all, &StreamReading::process));
        out["rows"].push_back({{"size", size},
                               {"depth", depth},
                               {"chunk_kib", chunk_kib},
                               {"gb_s", gb_s},
                               {"process_core", Of(all, &StreamReading::process)}});
      }
      Say("\n");
    }
    return {};
  }

  // io_uring beside pread threads, a layer at a time: all 8 of its experts missing, half of them, and with
  // both cores at work.
  Status Compare(const std::string& size, StreamRun& run, ordered_json& out) {
    struct Case {
      const char* name;
      int misses;
      bool load;
    };
    constexpr Case kCases[] = {{"8 of 8 missing", 8, false},
                               {"4 of 8 missing", 4, false},
                               {"8 of 8, cores busy", 8, true},
                               {"4 of 8, cores busy", 4, true}};
    const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
    Say("{} experts, a layer at a time{:>24}{:>14}{:>12}{:>16}\n", size, "backend", "ms a layer", "GB/s",
        "compute left");
    for (const Case& each : kCases) {
      std::map<StreamBackendKind, std::vector<StreamReading>> readings;
      std::map<StreamBackendKind, std::vector<double>> left;
      for (int round = 0; round < options_.rounds && !Interrupted(); ++round) {
        for (const int who : {round % 2, 1 - round % 2}) {
          const auto kind = who == 0 ? StreamBackendKind::kUring : StreamBackendKind::kPread;
          MORAINE_ASSIGN_OR_RETURN(const auto streamer, OpenStreamer(options_, files_, run, kind));
          const auto load = each.load ? std::make_unique<ComputeLoad>(cores) : nullptr;
          const auto alone = [&] {
            return Rate(load.get(), [] { std::this_thread::sleep_for(std::chrono::milliseconds(200)); });
          };
          Result<StreamReading> got = StreamReading{};
          const double before = alone();
          const double beside =
              Rate(load.get(), [&] { got = run.Layers(*streamer, each.misses, options_.seconds); });
          const double after = alone();
          if (!got.has_value()) return tl::unexpected(got.error());
          readings[kind].push_back(*got);
          left[kind].push_back(each.load ? 2 * beside / (before + after) : 1);
        }
      }
      if (Interrupted()) return {};
      for (const auto& [kind, all] : readings) {
        const double compute = Median(left[kind]);
        out["compare"].push_back({{"size", size},
                                  {"case", each.name},
                                  {"backend", NameOf(kind)},
                                  {"layer_ms", Of(all, &StreamReading::layer_ms)},
                                  {"gb_s", 1e-9 * Of(all, &StreamReading::bytes_s)},
                                  {"compute_left", compute}});
        Say("  {:<24}{:>26}{:>14.1f}{:>12.3f}{:>14.1f} %\n", each.name, NameOf(kind),
            Of(all, &StreamReading::layer_ms), 1e-9 * Of(all, &StreamReading::bytes_s), 100 * compute);
      }
    }
    return {};
  }

  // Bytes a second the load, if any, reads while `body` runs.
  template <typename Body>
  static double Rate(const ComputeLoad* load, Body&& body) {
    const double start = Seconds();
    const int64_t before = load == nullptr ? 0 : load->bytes();
    body();
    return load == nullptr ? 0 : static_cast<double>(load->bytes() - before) / (Seconds() - start);
  }

  const Options& options_;
  const ExpertFiles& files_;
  FioShape fio_;
  bool have_fio_ = false;
  std::map<StreamBackendKind, std::string> how_;
};

Status RunBench(const Options& options) {
  MORAINE_ASSIGN_OR_RETURN(const ExpertFiles files,
                           ExpertFiles::Make(options.dir, options.gib, options.keep));
  MORAINE_ASSIGN_OR_RETURN(const ordered_json out, Bench(options, files).Run());
  if (options.json) fmt::print("{}\n", out.dump());
  return {};
}

}  // namespace
}  // namespace moraine::tools

int main(int argc, char** argv) {
  using namespace moraine;
  using namespace moraine::tools;
  Options options;
  CLI::App app("How fast random experts come off the drive, beside what fio gets from the same files.");
  app.add_option("--dir", options.dir, "Where the files to read are made")->capture_default_str();
  app.add_option("--gib", options.gib, "Size of them together")
      ->check(CLI::Range(0.5, 4096.0))
      ->capture_default_str();
  app.add_option("--sizes", options.sizes, "Experts of fp8 (44.0 MB), int4 (24.8 MB)")
      ->delimiter(',')
      ->check(CLI::IsMember({"fp8", "int4"}))
      ->capture_default_str();
  app.add_option("--depth", options.depth, "Chunks under way")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--chunk-kib", options.chunk_kib, "Size of a chunk, a multiple of 4")
      ->check(CLI::Range(4, 65536))
      ->capture_default_str();
  app.add_flag("--registered", options.registered, "Register the slots with the ring");
  app.add_option("--seconds", options.seconds, "Time a contender runs in a round")
      ->check(CLI::Range(0.05, 600.0))
      ->capture_default_str();
  app.add_option("--rounds", options.rounds, "Rounds")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_flag("--compare", options.compare,
               "Instead: io_uring and pread threads, a layer at a time, cores idle and busy");
  app.add_flag("--sweep", options.sweep, "Instead: every depth with every chunk size");
  app.add_flag("--keep", options.keep, "Keep the files for the next run");
  app.add_flag("--json", options.json, "One JSON object on stdout");
  app.footer(
      "\nExit codes: 0 ok, 1 no room for the files, 2 usage, 5 I/O, 130 interrupted (the files are "
      "removed).");
  CatchInterrupts();
  return BenchMain(app, "bench_streamer", argc, argv, [&] { return RunBench(options); });
}
