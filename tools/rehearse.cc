// moraine rehearse: tok/s of a model that is not here yet, measured on a few of its layers with random
// weights.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "cpu/cpu_backend.h"
#include "policies/units.h"
#include "runtime/engine_plan.h"
#include "runtime/forecast.h"
#include "storage/convert/known_shapes.h"
#include "storage/convert/synth.h"
#include "tools/commands.h"
#include "tools/engine_flags.h"
#include "tools/fit_model.h"
#include "tools/interrupt.h"
#include "tools/prediction.h"
#include "tools/progress_bar.h"
#include "tools/rehearsal.h"
#include "tools/temporary_folder.h"
#include "tools/timed_run.h"

namespace moraine::tools {
namespace {

struct Flags {
  EngineFlags engine;
  std::string disk;
  std::string dir;
  std::string format;
  int32_t layers = 4;
  int64_t prompt_tokens = 128;
  int64_t tokens = 32;
  bool json = false;
};

constexpr int kParts = 4;         // of the answer, each timed in both rehearsals
constexpr int kPromptRounds = 3;  // after one that is not counted
constexpr int64_t kMostDisk = int64_t{20} << 30;

class Rehearsal {
 public:
  explicit Rehearsal(Flags flags) : flags_(std::move(flags)) {}

  Status Run() {
    MORAINE_RETURN_IF_ERROR(CheckNumbers());
    MORAINE_ASSIGN_OR_RETURN(options_, MakeEngineOptions(flags_.engine));
    MORAINE_ASSIGN_OR_RETURN(FitModel opened, OpenFitModel(flags_.engine.model, flags_.format));
    const FitModel model = std::move(opened);
    MORAINE_RETURN_IF_ERROR(PlanAll(model));
    MORAINE_ASSIGN_OR_RETURN(const int64_t disk, Disk());
    const ModelShape& shape = model.checkpoint.shape();
    MORAINE_ASSIGN_OR_RETURN(layers_, ChooseLayers(shape, BytesOf(model.checkpoint), disk, flags_.layers));
    MORAINE_ASSIGN_OR_RETURN(const TemporaryFolder folder, TemporaryFolder::Create(flags_.dir, "rehearse"));
    fmt::print(stderr, "rehearsal {} of {} MoE layers, then {}; {} in {} until it ends\n", layers_.low,
               shape.moe_layers(), layers_.high, HumanBytes(static_cast<double>(layers_.bytes)),
               folder.path());
    MORAINE_ASSIGN_OR_RETURN(low_, Open(model, folder.path() + "/low", layers_.low));
    MORAINE_ASSIGN_OR_RETURN(high_, Open(model, folder.path() + "/high", layers_.high));
    MORAINE_RETURN_IF_ERROR(Measure());
    MORAINE_ASSIGN_OR_RETURN(decode_, Extrapolate(decode_pairs_, layers_, shape.moe_layers()));
    MORAINE_ASSIGN_OR_RETURN(prefill_, Extrapolate(prefill_pairs_, layers_, shape.moe_layers()));
    MORAINE_RETURN_IF_ERROR(Forecasts(model));
    Print(model);
    return {};
  }

 private:
  Status CheckNumbers() const {
    if (flags_.layers >= 1 && flags_.prompt_tokens >= 1 && flags_.tokens >= kParts) return {};
    return Fail(ErrorKind::kUsage,
                fmt::format("--layers is {}, --prompt-tokens {}, --tokens {}; expected at least 1, 1 and {}",
                            flags_.layers, flags_.prompt_tokens, flags_.tokens, kParts));
  }

  // Memory as the whole model would divide it.
  Status PlanAll(const FitModel& model) {
    MORAINE_ASSIGN_OR_RETURN(const std::unique_ptr<CpuBackend> cpu,
                             CpuBackend::Create({.threads = options_.threads,
                                                 .isa = options_.isa,
                                                 .f32_activations = options_.f32_activations,
                                                 .switch_over = options_.switch_over}));
    const ExpertLayout layout(model.checkpoint, cpu->node_workers());
    MORAINE_ASSIGN_OR_RETURN(MemoryLimit ram, RamLimit(options_));
    auto planned = PlanEngine(model.checkpoint, layout, *cpu, options_, std::move(ram));
    if (!planned.has_value()) return Fail(planned.error(), model.name);
    if (flags_.prompt_tokens + flags_.tokens > planned->context) {
      return Fail(ErrorKind::kUsage,
                  fmt::format("{} prompt tokens and {} more do not fit the context of {}; raise --ctx",
                              flags_.prompt_tokens, flags_.tokens, planned->context));
    }
    options_.context = planned->context;
    plan_ = std::move(planned->plan);
    return {};
  }

  Result<int64_t> Disk() const {
    if (!flags_.disk.empty()) {
      const auto bytes = ParseBytes(flags_.disk);
      if (!bytes.has_value()) return Fail(bytes.error(), "--disk");
      return *bytes;
    }
    std::error_code error;
    const auto where =
        flags_.dir.empty() ? std::filesystem::temp_directory_path(error) : std::filesystem::path(flags_.dir);
    const auto space = std::filesystem::space(where, error);
    if (error)
      return Fail(ErrorKind::kIo,
                  fmt::format("{}: its free space cannot be read: {}", where.string(), error.message()));
    return std::min(kMostDisk, static_cast<int64_t>(space.available / 2));
  }

  // The slots of the plan's share; what else memory holds does not slow a step.
  Result<std::unique_ptr<Engine>> Open(const FitModel& model, const std::string& folder, int32_t moe_layers) {
    const ModelShape& shape = model.checkpoint.shape();
    MORAINE_ASSIGN_OR_RETURN(std::string config, RehearsalConfig(model.config, shape, moe_layers));
    MORAINE_RETURN_IF_ERROR(Synthesise({.config_text = std::move(config), .format = model.format}, folder,
                                       ProgressBar(fmt::format("writing {} MoE layers", moe_layers))));
    EngineOptions options = options_;
    options.ram.reset();
    options.experts.slots = RehearsalSlots(shape, plan_, moe_layers);
    MORAINE_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, Engine::Open(folder, options));
    if (moe_layers == layers_.high) share_ = SlotShare(engine->plan());
    return engine;
  }

  // Both rehearsals in turn, so that what slows this machine for a while slows both.
  Status Measure() {
    const auto progress = ProgressBar("measuring");
    constexpr int kSteps = 1 + kPromptRounds + kParts;
    const std::vector<int32_t> prompt = RandomPrompt(flags_.prompt_tokens, low_->shape().vocab, 1);
    std::vector<int32_t> low_ids;
    std::vector<int32_t> high_ids;
    std::optional<Sequence> low;
    std::optional<Sequence> high;
    for (int round = 0; round <= kPromptRounds; ++round) {
      progress(round, kSteps);
      low.reset();
      high.reset();
      low.emplace(low_->NewSequence());
      high.emplace(high_->NewSequence());
      RehearsalPair pair;
      MORAINE_ASSIGN_OR_RETURN(pair.low_s, TimePrompt(low_.get(), &*low, prompt, &low_ids));
      MORAINE_ASSIGN_OR_RETURN(pair.high_s, TimePrompt(high_.get(), &*high, prompt, &high_ids));
      if (round > 0) prefill_pairs_.push_back(pair);
    }
    for (int part = 0; part < kParts; ++part) {
      progress(1 + kPromptRounds + part, kSteps);
      const int64_t tokens = flags_.tokens * (part + 1) / kParts - flags_.tokens * part / kParts;
      MORAINE_ASSIGN_OR_RETURN(const TimedAnswer a, TimeAnswer(low_.get(), &*low, tokens, &low_ids));
      MORAINE_ASSIGN_OR_RETURN(const TimedAnswer b, TimeAnswer(high_.get(), &*high, tokens, &high_ids));
      const auto n = static_cast<double>(tokens);
      decode_pairs_.push_back({a.seconds / n, b.seconds / n});
      hits_ += static_cast<double>(b.read.expert_hits);
      uses_ += static_cast<double>(b.read.expert_hits + b.read.expert_misses);
    }
    progress(kSteps, kSteps);
    return {};
  }

  double HitRate() const { return uses_ > 0 ? hits_ / uses_ : 1; }

  // What fitcheck says, and the same with the hit rate that random routers had here.
  Status Forecasts(const FitModel& model) {
    MORAINE_ASSIGN_OR_RETURN(Hardware hardware, KnownHardware(flags_.dir.empty() ? "." : flags_.dir));
    measured_rates_ = hardware.rates.memory_read.origin == Origin::kMeasured;
    MORAINE_RETURN_IF_ERROR(ApplyStatedHardware(UsedBy(options_), &hardware));
    const ModelWork work = WorkOf(model.checkpoint, options_.kv_type);
    ForecastOptions options{
        .position = static_cast<double>(flags_.prompt_tokens) + static_cast<double>(flags_.tokens) / 2,
        .prompt_tokens = static_cast<double>(flags_.prompt_tokens),
        .chunk = static_cast<double>(options_.prefill_chunk),
        .hits = HitRateOf("drifting", SlotShare(plan_))};
    fitcheck_ = MakeForecast(work, plan_, hardware.rates, options);
    options.hits = {HitRate(), HitRate(), HitRate()};
    same_hits_ = MakeForecast(work, plan_, hardware.rates, options);
    return {};
  }

  static double Rate(double tokens, double seconds) { return seconds > 0 ? tokens / seconds : 0; }

  void Print(const FitModel& model) const {
    if (flags_.json) {
      fmt::print("{}\n", Json(model).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
      return;
    }
    const ModelShape& shape = model.checkpoint.shape();
    const auto prompt = static_cast<double>(flags_.prompt_tokens);
    const std::string rest =
        fmt::format("head and {} dense layer{}", shape.dense_layers, shape.dense_layers == 1 ? "" : "s");
    fmt::print("model         {}, {}: {} dense and {} MoE layers; {:.1f} % of the experts have a slot\n",
               model.name, model.format, shape.dense_layers, shape.moe_layers(), 100 * SlotShare(plan_));
    fmt::print(
        "measured      {} and {} MoE layers, {:.1f} % with a slot, {:.1f} % of uses in memory; prompt of {} "
        "tokens, {} more\n",
        layers_.low, layers_.high, 100 * share_, 100 * HitRate(), flags_.prompt_tokens, flags_.tokens);
    for (const auto& [name, e] : {std::pair("token", &decode_), std::pair("prompt", &prefill_)}) {
      fmt::print("a {:<11} {} {:.2f} ms{}, a MoE layer {:.2f} ms (difference over {} layers)\n", name, rest,
                 1e3 * e->rest_s, layers_.low == 0 ? "" : " (less one MoE layer)", 1e3 * e->moe_layer_s,
                 layers_.high - layers_.low);
    }
    fmt::print(
        "extrapolated  decode {:.2f} tok/s ({:.2f} to {:.2f}); prompts {:.1f} tok/s ({:.1f} to {:.1f})\n",
        Rate(1, decode_.step_s), Rate(1, decode_.slowest_s), Rate(1, decode_.fastest_s),
        Rate(prompt, prefill_.step_s), Rate(prompt, prefill_.slowest_s), Rate(prompt, prefill_.fastest_s));
    fmt::print("forecast      decode {:.2f} tok/s ({:.2f} to {:.2f}), prompts {:.1f} tok/s; rates {}\n",
               same_hits_.decode.tok_s, same_hits_.decode.low, same_hits_.decode.high,
               same_hits_.prefill.tok_s,
               measured_rates_ ? "measured" : "assumed (moraine fitcheck --measure)");
    if (plan_.holds_all) return;
    fmt::print(
        "              at the same hit rate. Random routers choose evenly; of a text fitcheck expects {:.0f} "
        "% "
        "in memory and\n              decode {:.2f} tok/s ({:.2f} to {:.2f})\n",
        100 * fitcheck_.hits.expected, fitcheck_.decode.tok_s, fitcheck_.decode.low, fitcheck_.decode.high);
  }

  nlohmann::ordered_json Json(const FitModel& model) const {
    const ModelShape& shape = model.checkpoint.shape();
    const auto part = [](const Extrapolation& e, double tokens) {
      return nlohmann::ordered_json{{"tok_s", Rate(tokens, e.step_s)},
                                    {"low", Rate(tokens, e.slowest_s)},
                                    {"high", Rate(tokens, e.fastest_s)},
                                    {"rest_s", e.rest_s},
                                    {"moe_layer_s", e.moe_layer_s}};
    };
    const auto pairs = [](const std::vector<RehearsalPair>& measured) {
      nlohmann::ordered_json all = nlohmann::ordered_json::array();
      for (const RehearsalPair& pair : measured) all.push_back({pair.low_s, pair.high_s});
      return all;
    };
    const auto forecast = [](const Forecast& f) {
      return nlohmann::ordered_json{{"decode_tok_s", f.decode.tok_s},
                                    {"low", f.decode.low},
                                    {"high", f.decode.high},
                                    {"limit", f.decode.limit},
                                    {"prefill_tok_s", f.prefill.tok_s},
                                    {"hit_rate", f.hits.expected}};
    };
    return {{"schema", 1},
            {"model", model.name},
            {"format", model.format},
            {"dense_layers", shape.dense_layers},
            {"moe_layers", shape.moe_layers()},
            {"slot_share", SlotShare(plan_)},
            {"prompt_tokens", flags_.prompt_tokens},
            {"completion_tokens", flags_.tokens},
            {"measured",
             {{"moe_layers", {layers_.low, layers_.high}},
              {"disk_bytes", layers_.bytes},
              {"slot_share", share_},
              {"hit_rate", HitRate()},
              {"token_s", pairs(decode_pairs_)},
              {"prompt_s", pairs(prefill_pairs_)}}},
            {"decode", part(decode_, 1)},
            {"prefill", part(prefill_, static_cast<double>(flags_.prompt_tokens))},
            {"forecast",
             {{"rates", measured_rates_ ? "measured" : "assumed"},
              {"same_hit_rate", forecast(same_hits_)},
              {"fitcheck", forecast(fitcheck_)}}}};
  }

  Flags flags_;
  EngineOptions options_;
  Plan plan_;  // of the whole model
  RehearsalLayers layers_;
  std::unique_ptr<Engine> low_;
  std::unique_ptr<Engine> high_;
  double share_ = 1;  // of the larger rehearsal's experts with a slot
  std::vector<RehearsalPair> prefill_pairs_;
  std::vector<RehearsalPair> decode_pairs_;
  double hits_ = 0;
  double uses_ = 0;
  Extrapolation prefill_;
  Extrapolation decode_;
  bool measured_rates_ = false;
  Forecast fitcheck_;
  Forecast same_hits_;
};

}  // namespace

void AddRehearse(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "rehearse", "Measure a model before the download, on a few of its layers made up here");
  command
      ->add_option("MODEL", flags->engine.model,
                   "A Hugging Face folder, a config.json, or one of " + KnownNames())
      ->required();
  AddPolicyFlags(*command, &flags->engine.policy);
  command->add_option("--disk", flags->disk,
                      "Most to write, e.g. 12GiB (default: 20GiB, or half of what is free)");
  command->add_option("--dir", flags->dir,
                      "Where to write, on the drive the model will be on (default: $TMPDIR)");
  command->add_option("--format", flags->format,
                      "Weights of a model that is not here: fp8, bf16, int8-g128, int4-g64, ...");
  command->add_option("--layers", flags->layers, "Most MoE layers to run")->capture_default_str();
  command->add_option("--prompt-tokens", flags->prompt_tokens, "Length of the random prompt")
      ->capture_default_str();
  command->add_option("--tokens", flags->tokens, "Tokens to decode, greedily")->capture_default_str();
  command->add_flag("--json", flags->json, "Print one JSON object");
  command->callback([flags, exit_code] {
    CatchInterrupts();
    if (const Status status = Rehearsal(*flags).Run(); !status.has_value())
      *exit_code = Report(status.error());
  });
}

}  // namespace moraine::tools
