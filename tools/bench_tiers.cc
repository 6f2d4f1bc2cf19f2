// bench_tiers: what the expert cache itself costs a layer, with all experts in memory and with some.
//
//   bench_tiers MODEL [--slots LIST] [--layers N] [--json]
//
// No expert is computed: routings are drawn at random, and what is timed is BeginLayer, Next and Release
// (lookup_us), and with fewer slots than experts also how long the reads take (wait_us, whose bound is the
// drive's rate of the same run).
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "cpu/topology.h"
#include "runtime/expert_cache.h"
#include "runtime/expert_grouping.h"
#include "tools/bench/bench_main.h"
#include "tools/bench/drive_rate.h"
#include "tools/bench/read_bandwidth.h"

namespace moraine::tools {
namespace {

struct Options {
  std::string model;
  std::vector<int32_t> slots;
  int64_t layers = 2000;
  bool json = false;
};

struct Row {
  int32_t slots;
  double hit_rate;
  double lookup_us;  // a layer: the table, the plan of what to read, the reads handed over
  double wait_us;    // a layer: until the last read has come
  double read_gb_s;  // while waiting
};

Result<Row> Measure(const std::shared_ptr<const Checkpoint>& checkpoint, const ModelWeights& weights,
                    const Topology& topology, int32_t slots, int64_t layers) {
  const ModelShape& shape = checkpoint->shape();
  const int one = 1;
  ExpertLayout layout(*checkpoint, {&one, 1});
  ExpertCacheOptions options{.staging = 2 * shape.top_k};
  for (size_t c = 0; c < layout.classes().size(); ++c)
    options.slots.push_back(std::max(slots, 2 * shape.top_k));
  MORAINE_ASSIGN_OR_RETURN(const std::unique_ptr<ExpertCache> cache,
                           ExpertCache::Open(checkpoint, std::move(layout), weights, topology, options));
  MORAINE_RETURN_IF_ERROR(cache->Fill({}));
  ExpertGrouping grouping(shape.experts, shape.top_k, 1);
  std::mt19937 random(1);
  std::vector<int32_t> all(static_cast<size_t>(shape.experts));
  std::iota(all.begin(), all.end(), 0);
  const std::vector<float> gains(static_cast<size_t>(shape.top_k), 1);
  const ExpertCacheStats before = cache->stats();
  double lookup = 0;
  double wait = 0;
  int64_t done = 0;
  for (; done < layers;) {
    cache->BeginStep(1);
    for (int32_t l = shape.dense_layers; l < shape.layers; ++l, ++done) {
      for (int32_t k = 0; k < shape.top_k; ++k)
        std::swap(all[static_cast<size_t>(k)],
                  all[static_cast<size_t>(k) + random() % (all.size() - static_cast<size_t>(k))]);
      const Routing routing{.rows = 1, .top_k = shape.top_k, .experts = all.data(), .weights = gains.data()};
      std::span<ExpertWork> work = grouping.Group(routing);
      double at = Seconds();
      cache->BeginLayer(LayerId{l}, routing);
      while (!work.empty()) {
        MORAINE_ASSIGN_OR_RETURN(const size_t count, cache->Next(work));
        lookup += Seconds() - at;
        at = Seconds();
        for (const ExpertWork& item : work.first(count)) MORAINE_RETURN_IF_ERROR(item.ready.Wait());
        wait += Seconds() - at;
        at = Seconds();
        cache->Release();
        work = work.subspan(count);
      }
      lookup += Seconds() - at;
    }
  }
  const ExpertCacheStats after = cache->stats();
  const auto hits = static_cast<double>(after.hits - before.hits);
  const auto misses = static_cast<double>(after.misses - before.misses);
  return Row{
      .slots = slots,
      .hit_rate = hits / (hits + misses),
      .lookup_us = 1e6 * lookup / static_cast<double>(done),
      .wait_us = 1e6 * wait / static_cast<double>(done),
      .read_gb_s = misses == 0 ? 0 : 1e-9 * static_cast<double>(after.nvme_bytes - before.nvme_bytes) / wait};
}

Status RunBench(const Options& options) {
  MORAINE_ASSIGN_OR_RETURN(Checkpoint opened, Checkpoint::Open(options.model));
  const auto checkpoint = std::make_shared<const Checkpoint>(std::move(opened));
  if (checkpoint->shape().moe_layers() == 0)
    return Fail(ErrorKind::kUsage, "the model has no routed experts");
  MORAINE_ASSIGN_OR_RETURN(const std::unique_ptr<Topology> topology, Topology::Read());
  MORAINE_ASSIGN_OR_RETURN(const std::unique_ptr<ModelWeights> weights,
                           ModelWeights::Load(checkpoint, *topology, {}));
  MORAINE_ASSIGN_OR_RETURN(const std::unique_ptr<DriveRate> drive, DriveRate::Open(*checkpoint, {}));
  nlohmann::ordered_json json = {{"schema", 1}, {"rows", nlohmann::ordered_json::array()}};
  if (!options.json)
    fmt::print("   slots   hits   lookup us a layer   reads us a layer     GB/s    drive  share\n");
  for (const int32_t slots : options.slots) {
    MORAINE_ASSIGN_OR_RETURN(const double rate, drive->Measure(0.5));
    MORAINE_ASSIGN_OR_RETURN(const Row row, Measure(checkpoint, *weights, *topology, slots, options.layers));
    json["rows"].push_back({{"slots", row.slots},
                            {"hit_rate", row.hit_rate},
                            {"lookup_us", row.lookup_us},
                            {"wait_us", row.wait_us},
                            {"read_gb_s", row.read_gb_s},
                            {"drive_gb_s", 1e-9 * rate}});
    if (options.json) continue;
    fmt::print("{:>8} {:>5.1f}% {:>19.2f} {:>18.1f} {:>8.3f} {:>8.3f} {:>5.0f}%\n", row.slots,
               100 * row.hit_rate, row.lookup_us, row.wait_us, row.read_gb_s, 1e-9 * rate,
               1e11 * row.read_gb_s / rate);
  }
  if (options.json) fmt::print("{}\n", json.dump());
  return {};
}

}  // namespace
}  // namespace moraine::tools

int main(int argc, char** argv) {
  using namespace moraine;
  using namespace moraine::tools;
  Options options;
  CLI::App app("What the expert cache costs a layer, and how fast what is missing comes.");
  app.add_option("MODEL", options.model, "Folder of a checkpoint")->required();
  app.add_option("--slots", options.slots, "Slots of each size class to try (default: one for every expert)")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 24));
  app.add_option("--layers", options.layers, "Layers a row is measured over")
      ->check(CLI::Range(1, 1 << 30))
      ->capture_default_str();
  app.add_flag("--json", options.json, "One JSON object on stdout");
  app.footer("\nExit codes: 0 ok, 1 does not fit, 2 usage, 3 model files, 5 I/O or internal.");
  return BenchMain(app, "bench_tiers", argc, argv, [&] {
    if (options.slots.empty()) options.slots.push_back(1 << 24);
    return RunBench(options);
  });
}
