// moraine replay: what each cache policy would have made of a trace, at any size, without the model.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "policies/synthetic_routing.h"
#include "policies/units.h"
#include "runtime/trace/trace_writer.h"
#include "tools/commands.h"
#include "tools/load_trace.h"
#include "tools/policy_source.h"
#include "tools/replay_sweep.h"

namespace moraine::tools {
namespace {

struct Flags {
  std::string trace;
  std::vector<int32_t> slots;
  std::vector<double> fractions = {0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1};
  std::string nvme = "6GB";
  std::string memory = "80GB";
  std::string expert_bytes;
  PolicyFlags policy;  // --set only
  SweepOptions sweep;
  std::string svg;
  bool json = false;
  bool generate = false;
  SyntheticRouting routing;
};

constexpr int64_t kR1ExpertBytes = 44'040'192 + 10'752;  // FP8 weights and their block scales

Result<double> Bandwidth(const std::string& text, const char* flag) {
  const auto bytes = ParseBytes(text);
  if (!bytes) return Fail(ErrorKind::kUsage, fmt::format("{} is {}", flag, bytes.error().message));
  if (*bytes == 0) return Fail(ErrorKind::kUsage, fmt::format("{} is 0; expected bytes a second", flag));
  return static_cast<double>(*bytes);
}

// Rows of a made-up run, with weights that say nothing.
Status Generate(const Flags& flags) {
  const SyntheticRouting& made = flags.routing;
  if (made.layers < 1 || made.experts < 1 || made.experts > 65535 || made.top_k < 1 ||
      made.top_k > made.experts || made.tokens < 0 || made.prompt < 0 ||
      !(made.skew >= 0 && made.skew <= 10) || !(made.overlap >= 0 && made.overlap <= 1) || made.memory < 1)
    return Fail(
        ErrorKind::kUsage,
        "--generate: expected layers, experts, top-k of 1 and more, top-k at most experts, skew 0 to 10, "
        "overlap 0 to 1, memory 1 and more");
  TraceHeader header{.seed = made.seed,
                     .expert_bytes = flags.sweep.expert_bytes > 0 ? flags.sweep.expert_bytes : kR1ExpertBytes,
                     .layers = made.layers,
                     .experts = made.experts,
                     .top_k = made.top_k,
                     .format = "synthetic"};
  for (int32_t layer = 0; layer < made.layers; ++layer) header.layer_map.push_back(layer);
  const RoutingTrace routing = MakeRouting(made);
  // Nothing waits for this program: it may wait for the drive.
  MORAINE_ASSIGN_OR_RETURN(const std::unique_ptr<TraceWriter> writer,
                           TraceWriter::Create(flags.trace, header, {.patience = std::chrono::hours(1)}));
  const std::vector<float> weights(static_cast<size_t>(made.top_k), 1.f / static_cast<float>(made.top_k));
  const std::vector<Residency> residency(weights.size(), Residency::kNvme);
  int32_t position = 0;
  for (size_t i = 0; i < routing.steps.size(); ++i) {
    const RoutingTrace::Step& step = routing.steps[i];
    for (const RoutingTrace::Layer& layer : step.layers) {
      for (int32_t row = 0; row < step.rows; ++row) {
        const auto chosen =
            routing.Chosen(step, layer).subspan(static_cast<size_t>(row) * weights.size(), weights.size());
        writer->Add({.step = static_cast<int32_t>(i),
                     .position = position + row,
                     .layer = layer.layer,
                     .phase = step.decode ? TracePhase::kDecode : TracePhase::kPrefill,
                     .experts = chosen,
                     .weights = weights,
                     .residency = residency});
      }
    }
    position += step.rows;
  }
  writer->Close();
  if (!writer->Notice().empty()) return Fail(ErrorKind::kIo, writer->Notice());
  fmt::print(stderr, "{} rows; lag-1 overlap {:.3f}\n", writer->rows_written(), Lag1Overlap(routing));
  return {};
}

void PrintJson(const Flags& flags, const LoadedTrace& loaded, const std::vector<SweepRow>& rows) {
  using Json = nlohmann::ordered_json;
  Json results = Json::array();
  for (const SweepRow& row : rows)
    results.push_back({{"policy", row.policy},
                       {"floor", row.floor},
                       {"slots", row.slots},
                       {"fraction", row.fraction},
                       {"tokens", row.tokens},
                       {"hits", row.hits},
                       {"misses", row.misses},
                       {"hit_rate", row.hit_rate()},
                       {"promoted", row.promoted},
                       {"nvme_bytes_per_token", row.bytes_per_token},
                       {"ms_summed", row.ms_after},
                       {"ms_beside", row.ms_beside}});
  const RoutingTrace& routing = loaded.routing;
  const Json object = {{"schema", 1},
                       {"trace",
                        {{"layers", routing.layers},
                         {"experts", routing.experts},
                         {"top_k", routing.top_k},
                         {"steps", routing.steps.size()},
                         {"lag1_overlap", Lag1Overlap(routing)},
                         {"format", loaded.format}}},
                       {"expert_bytes", flags.sweep.expert_bytes},
                       {"nvme_bytes_s", flags.sweep.nvme},
                       {"memory_bytes_s", flags.sweep.memory},
                       {"results", results}};
  fmt::print("{}\n", object.dump(-1, ' ', false, Json::error_handler_t::replace));
}

Status Run(Flags flags) {
  MORAINE_ASSIGN_OR_RETURN(flags.sweep.nvme, Bandwidth(flags.nvme, "--nvme"));
  MORAINE_ASSIGN_OR_RETURN(flags.sweep.memory, Bandwidth(flags.memory, "--mem-bw"));
  if (!flags.expert_bytes.empty()) {
    MORAINE_ASSIGN_OR_RETURN(const double bytes, Bandwidth(flags.expert_bytes, "--expert-bytes"));
    flags.sweep.expert_bytes = static_cast<int64_t>(bytes);
  }
  if (flags.generate) return Generate(flags);
  MORAINE_ASSIGN_OR_RETURN(const ResolvedPolicy resolved,
                           ResolveFlags(flags.policy, [](const char*) -> const char* { return nullptr; }));
  flags.sweep.eviction = EvictionOf(resolved.policy.cache);
  flags.sweep.second_touch = resolved.policy.cache.second_touch.value_or(false);
  flags.sweep.staging = static_cast<int32_t>(resolved.policy.cache.staging.value_or(flags.sweep.staging));

  MORAINE_ASSIGN_OR_RETURN(const LoadedTrace loaded, LoadTrace(flags.trace));
  if (!loaded.notice.empty()) fmt::print(stderr, "moraine: {}\n", loaded.notice);
  if (flags.sweep.expert_bytes == 0) flags.sweep.expert_bytes = loaded.expert_bytes;
  if (flags.sweep.expert_bytes == 0)
    return Fail(ErrorKind::kUsage, "the trace does not say how large an expert is; give --expert-bytes");
  const int32_t keys = loaded.routing.layers * loaded.routing.experts;
  flags.sweep.slots = flags.slots;
  for (const double fraction : flags.fractions) {
    if (!(fraction > 0 && fraction <= 1))
      return Fail(ErrorKind::kUsage,
                  fmt::format("--fractions has {}; expected more than 0, at most 1", fraction));
    if (flags.slots.empty())
      flags.sweep.slots.push_back(std::max(1, static_cast<int32_t>(std::lround(fraction * keys))));
  }
  MORAINE_ASSIGN_OR_RETURN(const std::vector<SweepRow> rows, Sweep(loaded.routing, flags.sweep));
  if (!flags.svg.empty()) {
    std::ofstream file(flags.svg, std::ios::binary | std::ios::trunc);
    file << SweepSvg(flags.trace, rows);
    if (!file.flush()) return Fail(ErrorKind::kIo, fmt::format("--svg {}: cannot be written", flags.svg));
  }
  if (flags.json) {
    PrintJson(flags, loaded, rows);
  } else {
    fmt::print(
        "{} layers of {} experts, {} chosen; {} steps; lag-1 overlap {:.3f}\n"
        "{} an expert, drive {}/s, memory {}/s; pinned knows the whole trace\n{}",
        loaded.routing.layers, loaded.routing.experts, loaded.routing.top_k, loaded.routing.steps.size(),
        Lag1Overlap(loaded.routing), FormatBytes(flags.sweep.expert_bytes), flags.nvme, flags.memory,
        SweepText(rows));
  }
  return {};
}

}  // namespace

void AddReplay(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<Flags>();
  flags->sweep.policies = {"ewma", "lru", "lfu", "pinned", "belady", "belady-bypass"};
  flags->sweep.floors = {"0"};
  CLI::App* command =
      app.add_subcommand("replay", "Run a trace of routing through every cache policy and size");
  command->add_option("TRACE", flags->trace, "A trace (storage/TRACE.md)")->required();
  command->add_option("--policies", flags->sweep.policies, "Of ewma, lru, lfu, pinned, belady, belady-bypass")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--slots", flags->slots, "Sizes, in experts")->delimiter(',');
  command->add_option("--fractions", flags->fractions, "Sizes, as shares of all experts")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--floors", flags->sweep.floors, "Experts a layer keeps: numbers, or uniform")
      ->delimiter(',')
      ->capture_default_str();
  command->add_option("--set", flags->policy.set, "cache.key=value: half_life, hysteresis, staging, ...");
  command->add_option("--nvme", flags->nvme, "The drive, bytes a second")->capture_default_str();
  command->add_option("--mem-bw", flags->memory, "Memory, bytes a second")->capture_default_str();
  command->add_option("--expert-bytes", flags->expert_bytes, "Size of an expert (default: the trace's)");
  command->add_option("--svg", flags->svg, "Also plot hit rate over size into this file");
  command->add_flag("--json", flags->json, "Print one JSON object");
  command->add_flag("--generate", flags->generate,
                    "Write TRACE instead: made-up routing, by the flags below");
  command->add_option("--layers", flags->routing.layers)->capture_default_str();
  command->add_option("--experts", flags->routing.experts)->capture_default_str();
  command->add_option("--top-k", flags->routing.top_k)->capture_default_str();
  command->add_option("--tokens", flags->routing.tokens, "Decode steps")->capture_default_str();
  command->add_option("--prompt", flags->routing.prompt, "Rows of a prompt before them")
      ->capture_default_str();
  command->add_option("--skew", flags->routing.skew, "Zipf exponent of a layer's experts")
      ->capture_default_str();
  command
      ->add_option("--overlap", flags->routing.overlap, "Share of a row's experts that come from rows before")
      ->capture_default_str();
  command->add_option("--memory", flags->routing.memory, "How many rows back those may lie")
      ->capture_default_str();
  command->add_option("--seed", flags->routing.seed)->capture_default_str();
  command->callback([flags, exit_code] {
    const Status status = Run(*flags);
    *exit_code = status ? 0 : Report(status.error());
  });
}

}  // namespace moraine::tools
