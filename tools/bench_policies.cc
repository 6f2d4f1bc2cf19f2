// bench_policies: what the bookkeeping of a layer costs at R1's size, beside what it decides about.
//
//   bench_policies [TRACE]   one line a policy: microseconds of a Settle with 8 newcomers, and of a whole
//   layer;
//                            then what a token costs that is traced, into TRACE (default: /dev/null)
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "policies/eviction.h"
#include "policies/layer_access.h"
#include "policies/slot_table.h"
#include "runtime/trace/trace_writer.h"
#include "tools/bench/bench_main.h"

namespace moraine {
namespace {

constexpr int32_t kLayers = 60;
constexpr int32_t kExperts = 256;
constexpr int32_t kTopK = 8;
constexpr int32_t kKeys = kLayers * kExperts;
constexpr int32_t kKept = 58 * kExperts;  // R1's experts: no table keeps more
constexpr int32_t kStaging = 128;

using Clock = std::chrono::steady_clock;
double Microseconds(Clock::time_point from) {
  return std::chrono::duration<double, std::micro>(Clock::now() - from).count();
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

// A full table as large as R1's, with two layers more so that something is always missing.
struct Bench {
  explicit Bench(const std::string& policy)
      : table({.layers = kLayers,
               .experts = kExperts,
               .slots = kKept + kStaging,
               .staging = kStaging,
               .floor = 8},
              *MakeEviction({.policy = policy, .profile = std::vector<float>(kKeys, 1.f)}, kKeys)),
        access(&table) {
    for (int32_t key = 0; key < kKeys; ++key) {
      table.Place(key);
      table.Unpin(key);
      table.Use(key, 1 + key % 7, false);
      table.Settle();
    }
  }

  // Draws a step of one row: 8 distinct experts, some far likelier than others.
  void Draw() {
    for (size_t i = 0; i < chosen.size();) {
      const double u = std::uniform_real_distribution<double>(0, 1)(random);
      chosen[i] = static_cast<int32_t>(kExperts * u * u);
      if (std::find(chosen.begin(), chosen.begin() + static_cast<std::ptrdiff_t>(i), chosen[i]) ==
          chosen.begin() + static_cast<std::ptrdiff_t>(i))
        ++i;
    }
  }

  double Layer(int32_t layer) {
    Draw();
    const auto from = Clock::now();
    access.BeginLayer(layer, chosen, kTopK);
    while (!access.Done()) {
      access.Next();
      access.Release();
    }
    return Microseconds(from);
  }

  // Eight keys that are not kept are used more than any other.
  double Settle() {
    int32_t found = 0;
    for (int32_t key = static_cast<int32_t>(random() % kKeys); found < kTopK; key = (key + 997) % kKeys) {
      if (table.Kept(key)) continue;
      const bool hit = table.Find(key).value >= 0;
      if (!hit) {
        table.Place(key);
        table.Unpin(key);
      }
      table.Use(key, 100, hit);
      ++found;
    }
    const auto from = Clock::now();
    table.Settle();
    return Microseconds(from);
  }

  std::mt19937 random{1};
  std::vector<int32_t> chosen = std::vector<int32_t>(kTopK);
  SlotTable table;
  LayerAccess access;
};

// Rows of R1's 58 layers, as fast as the step's thread can hand them over.
Status TraceCost(const std::string& path) {
  constexpr int32_t kTokens = 4000;
  TraceHeader header{.layers = 58, .experts = kExperts, .top_k = kTopK, .guesses = kTopK};
  for (int32_t layer = 0; layer < header.layers; ++layer) header.layer_map.push_back(layer);
  MORAINE_ASSIGN_OR_RETURN(const std::unique_ptr<TraceWriter> writer,
                           TraceWriter::Create(path, header, {.patience = std::chrono::hours(1)}));
  const std::vector<int32_t> ids = {1, 2, 3, 4, 5, 6, 7, 8};
  const std::vector<float> weights(kTopK, 0.125f);
  const std::vector<Residency> residency(kTopK, Residency::kRam);
  std::vector<double> tokens;
  for (int32_t token = 0; token < kTokens; ++token) {
    const auto from = Clock::now();
    for (int32_t layer = 0; layer < header.layers; ++layer)
      writer->Add({.step = token,
                   .position = token,
                   .layer = layer,
                   .experts = ids,
                   .weights = weights,
                   .residency = residency,
                   .guesses = ids});
    tokens.push_back(Microseconds(from));
  }
  writer->Close();
  const double most = *std::max_element(tokens.begin(), tokens.end());
  fmt::print("trace    a token of {} rows {:.1f} us (median), {:.1f} us (worst of {})\n", header.layers,
             Median(std::move(tokens)), most, kTokens);
  return {};
}

Status RunBench(const std::string& trace) {
  fmt::print("{} kept of {} keys, {} newcomers\n", kKept, kKeys, kTopK);
  for (const std::string_view policy : EvictionNames()) {
    const auto bench = std::make_unique<Bench>(std::string(policy));
    std::vector<double> layers;
    std::vector<double> settles;
    for (int32_t step = 0; step < 200; ++step) {
      bench->access.BeginStep(1);
      for (int32_t layer = 0; layer < kLayers; ++layer) layers.push_back(bench->Layer(layer));
      settles.push_back(bench->Settle());
    }
    const double mean =
        std::accumulate(layers.begin(), layers.end(), 0.0) / static_cast<double>(layers.size());
    fmt::print("{:8} settle {:6.1f} us   layer {:6.1f} us (median), {:6.1f} us (mean)   promoted {}\n",
               policy, Median(settles), Median(layers), mean, bench->table.counters().promoted);
  }
  return TraceCost(trace);
}

}  // namespace
}  // namespace moraine

int main(int argc, char** argv) {
  using namespace moraine;
  std::string trace = "/dev/null";
  CLI::App app("What the cache's bookkeeping costs a layer at R1's size, by policy, and tracing a token.");
  app.add_option("TRACE", trace, "File the trace is written to")->capture_default_str();
  app.footer("\nExit codes: 0 ok, 2 usage, 5 I/O or internal.");
  return tools::BenchMain(app, "bench_policies", argc, argv, [&] { return RunBench(trace); });
}
