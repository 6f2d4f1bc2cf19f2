// moraine fitcheck: what of a model fits here, how fast it will run, and what limits it.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "cpu/cpu_backend.h"
#include "policies/replay.h"
#include "policies/units.h"
#include "runtime/engine_plan.h"
#include "runtime/hardware_read.h"
#include "storage/convert/known_shapes.h"
#include "tools/commands.h"
#include "tools/engine_flags.h"
#include "tools/fit_report.h"
#include "tools/hardware_cache.h"
#include "tools/help_format.h"
#include "tools/inspect_report.h"
#include "tools/interrupt.h"
#include "tools/load_trace.h"
#include "tools/measure.h"
#include "tools/prediction.h"
#include "tools/stated_hardware.h"
#include "tools/whole_file.h"

namespace moraine::tools {
namespace {

struct Flags {
  EngineFlags engine;
  StatedHardware stated;
  std::string format;
  std::string curve;
  std::string trace;
  std::vector<std::string> require;
  std::string html;
  std::string emit_policy;
  int64_t prompt_tokens = 512;
  int64_t position = 1024;
  bool measure = false;
  bool explain = false;
  bool compare = false;
  bool history = false;
  bool json = false;
};

// "decode>=5": what must hold, or the exit code is 1.
struct Requirement {
  std::string text;
  std::string figure;
  double least = 0;
  bool at_most = false;
};

Result<Requirement> ParseRequirement(const std::string& text) {
  const size_t at = text.find_first_of("<>");
  Requirement r{.text = text};
  if (at != std::string::npos && at + 2 < text.size() && text[at + 1] == '=') {
    r.figure = text.substr(0, at);
    r.at_most = text[at] == '<';
    const char* end = text.data() + text.size();
    const auto [next, error] = std::from_chars(text.data() + at + 2, end, r.least);
    const bool known =
        r.figure == "decode" || r.figure == "prefill" || r.figure == "context" || r.figure == "first-token";
    if (known && error == std::errc() && next == end) return r;
  }
  return Fail(ErrorKind::kUsage,
              fmt::format("--require {}: expected decode, prefill, context or first-token, >= or <=, and a "
                          "number: 'decode>=5'",
                          text));
}

class FitCheck {
 public:
  explicit FitCheck(Flags flags) : flags_(std::move(flags)) {}

  Result<int> Run() {
    if (flags_.history) return History();
    if (flags_.engine.model.empty())
      return Fail(ErrorKind::kUsage,
                  fmt::format("which model? A folder, a config.json or one of {}", KnownNames()));
    std::vector<Requirement> requirements;
    for (const std::string& text : flags_.require) {
      MORAINE_ASSIGN_OR_RETURN(Requirement requirement, ParseRequirement(text));
      requirements.push_back(std::move(requirement));
    }
    MORAINE_RETURN_IF_ERROR(CheckNumbers());
    MORAINE_ASSIGN_OR_RETURN(const EngineOptions options, Options());
    MORAINE_ASSIGN_OR_RETURN(const FitModel model, OpenFitModel(flags_.engine.model, flags_.format));
    MORAINE_ASSIGN_OR_RETURN(const Hardware hardware, Machine(model, options));
    MORAINE_ASSIGN_OR_RETURN(FitCase fit, Case(model, options, hardware));
    FitReport report{.model = model,
                     .hardware = hardware,
                     .fit = fit,
                     .context = context_,
                     .largest_context = LargestContext(fit, options.page_tokens),
                     .kv_type = std::string(Name(options.kv_type))};
    if (auto answer = Ask(fit); answer.has_value()) {
      report.answer = *std::move(answer);
      for (const std::string& warning : report.answer->plan.warnings) notices_.push_back(warning);
    } else if (answer.error().kind == ErrorKind::kDoesNotFit) {
      report.refusal = answer.error().message;
      notices_.push_back(ElsewhereLine(model));
    } else {
      return tl::unexpected(answer.error());
    }
    report.next = NextSteps(fit);
    report.notices = notices_;
    if (model.origin == "folder" && !model.checkpoint.shape().sparse && report.answer)
      report.verify = fmt::format("moraine bench {} --ctx {} --tokens 64", model.name, context_);
    if (!flags_.html.empty()) MORAINE_RETURN_IF_ERROR(WriteWhole(flags_.html, FitHtml(report)));
    if (!flags_.emit_policy.empty() && report.answer)
      MORAINE_RETURN_IF_ERROR(EmitPolicy(options, hardware, *report.answer));
    return Print(report, requirements);
  }

 private:
  Result<int> History() const {
    MORAINE_ASSIGN_OR_RETURN(const std::vector<HistoryEntry> entries, ReadHistory(HistoryPath()));
    fmt::print("{}", flags_.json ? HistoryJson(entries).dump() + "\n" : HistoryText(entries));
    return 0;
  }

  Status CheckNumbers() const {
    if (flags_.prompt_tokens < 1 || flags_.position < 0) {
      return Fail(ErrorKind::kUsage,
                  fmt::format("--prompt-tokens is {} and --position {}; expected at least 1 "
                              "and 0",
                              flags_.prompt_tokens, flags_.position));
    }
    return flags_.curve.empty() ? Status() : CheckHitCurve(flags_.curve);
  }

  // A card is stated for the report; the engine of this version would refuse the key.
  Result<EngineOptions> Options() {
    for (size_t i = 0; i < kPolicyFlags.size(); ++i) {
      auto& value = flags_.engine.policy.values[i];
      if (std::string_view(kPolicyFlags[i].flag) == "--vram" && value)
        flags_.stated.vram = *std::exchange(value, {});
      // A machine that is not here may have kernels that this one lacks; rates follow them, scratch does not.
      if (std::string_view(kPolicyFlags[i].flag) == "--isa" && value)
        flags_.stated.isa = *std::exchange(value, {});
    }
    MORAINE_ASSIGN_OR_RETURN(
        const ResolvedPolicy resolved,
        ResolveFlags(flags_.engine.policy, [](const char* name) { return std::getenv(name); }));
    for (const std::string& notice : resolved.notices) notices_.push_back(notice);
    fingerprint_ = resolved.policy.measured.fingerprint.value_or("");
    for (const ResolvedKey& row : resolved.keys) {
      if (!std::holds_alternative<std::monostate>(row.value))
        policy_.Set({.key = row.key, .value = row.value, .where = row.where});
    }
    EngineOptions options;
    ApplyPolicy(resolved.policy, &options);
    options.disk_prefix = resolved.policy.serve.prefix_disk.value_or(0) > 0;
    MORAINE_RETURN_IF_ERROR(ApplyProfile(resolved.policy, &options));
    return options;
  }

  Result<Hardware> Machine(const FitModel& model, const EngineOptions& options) {
    const std::string path = model.origin == "folder" ? model.name : ".";
    MORAINE_ASSIGN_OR_RETURN(Hardware hardware, ReadHardware(path));
    if (!fingerprint_.empty() && fingerprint_ != hardware.fingerprint)
      notices_.push_back(fmt::format("the policy was made on another machine: {}", fingerprint_));
    if (flags_.measure) {
      MORAINE_ASSIGN_OR_RETURN(const MeasuredRates measured, MeasureHardware(hardware, path, {}));
      for (const std::string& note : measured.notes) notices_.push_back(note);
      ApplyMeasured(measured, &hardware);
      if (const Status saved = SaveHardwareCache(HardwareCachePath(), measured); !saved.has_value())
        notices_.push_back(fmt::format("the figures are not kept: {}", saved.error().message));
    } else {
      ApplyKnown(&hardware, &notices_);
    }
    StatedHardware stated = flags_.stated;
    if (stated.cores.empty()) stated.cores = UsedBy(options).cores;
    MORAINE_RETURN_IF_ERROR(ApplyStatedHardware(stated, &hardware));
    for (const std::string& note : hardware.notes) notices_.push_back(note);
    if (!hardware.ram_note.empty() && !options.ram) notices_.push_back(hardware.ram_note);
    if (!hardware.gpus.empty())
      notices_.push_back("this version computes on the processor: a card changes nothing here yet");
    if (!flags_.measure && hardware.rates.memory_read.origin == Origin::kAssumed)
      notices_.push_back("rates are assumed; --measure takes those of this machine in some seconds");
    return hardware;
  }

  // What is asked about may be another machine, so --ram is taken as it is, and this one's limit is not.
  Result<MemoryLimit> Ceiling(const EngineOptions& options) {
    MORAINE_ASSIGN_OR_RETURN(MemoryLimit here, RamLimit([&] {
                               EngineOptions automatic = options;
                               automatic.ram.reset();
                               return automatic;
                             }()));
    if (!options.ram) return here;
    if (*options.ram > here.bytes) {
      notices_.push_back(
          fmt::format("--ram {} is more than this machine can give now ({}): this is a forecast "
                      "for another one",
                      FormatBytes(*options.ram), HumanBytes(static_cast<double>(here.bytes))));
    }
    return MemoryLimit{*options.ram, "--ram"};
  }

  Result<FitCase> Case(const FitModel& model, const EngineOptions& options, const Hardware& hardware) {
    MORAINE_ASSIGN_OR_RETURN(MemoryLimit ram, Ceiling(options));
    CpuOptions cpu_options{.threads = options.threads,
                           .f32_activations = options.f32_activations,
                           .switch_over = options.switch_over};
    if (!flags_.stated.cores.empty())
      cpu_options.topology = fmt::format("node:1 core:{} pu:1", hardware.cores);
    MORAINE_ASSIGN_OR_RETURN(const std::unique_ptr<CpuBackend> cpu, CpuBackend::Create(cpu_options));
    const ExpertLayout layout(model.checkpoint, cpu->node_workers());
    // With no ceiling first: what does not fit is a part of the report.
    MORAINE_ASSIGN_OR_RETURN(EnginePlan planned, PlanEngine(model.checkpoint, layout, *cpu, options,
                                                            MemoryLimit{INT64_MAX / 4, "no limit"}));
    context_ = planned.context;
    FitCase fit;
    fit.shape = model.checkpoint.shape();
    fit.request = std::move(planned.request);
    fit.request.ram = std::move(ram);
    fit.work = WorkOf(model.checkpoint, options.kv_type);
    fit.rates = hardware.rates;
    fit.curve = flags_.curve.empty() ? (model.random ? "even" : "drifting") : flags_.curve;
    fit.forecast.position = static_cast<double>(std::min(flags_.position, context_));
    fit.forecast.prompt_tokens = static_cast<double>(std::min(flags_.prompt_tokens, context_));
    fit.forecast.chunk = static_cast<double>(options.prefill_chunk);
    fit.forecast.hits_from = fmt::format("curve {}", fit.curve);
    if (!flags_.trace.empty()) MORAINE_RETURN_IF_ERROR(HitsOfTrace(options, &fit));
    return fit;
  }

  // The trace through the slots that the plan leaves, as the engine would run it.
  Status HitsOfTrace(const EngineOptions& options, FitCase* fit) {
    MORAINE_ASSIGN_OR_RETURN(const LoadedTrace trace, LoadTrace(flags_.trace));
    if (!trace.notice.empty()) notices_.push_back(trace.notice);
    const RoutingTrace& routing = trace.routing;
    if (routing.experts != fit->shape.experts || routing.top_k != fit->shape.top_k) {
      return Fail(
          ErrorKind::kUsage,
          fmt::format("--trace {}: of a model with {} experts, {} a token; this one has {} and {}",
                      flags_.trace, routing.experts, routing.top_k, fit->shape.experts, fit->shape.top_k));
    }
    const auto plan = MakePlan(fit->shape, fit->request);
    if (!plan.has_value() || plan->holds_all) return {};
    // A trace of fewer layers stands for all of them.
    const double share = SlotShare(*plan);
    const int32_t keys = routing.layers * routing.experts;
    const auto slots = std::max(2, static_cast<int32_t>(share * keys));
    MORAINE_ASSIGN_OR_RETURN(
        const ReplayResult result,
        Replay(routing,
               {.layers = routing.layers,
                .experts = routing.experts,
                .slots = slots,
                .staging = std::min(options.experts.staging.value_or(plan->staging), slots / 2),
                .floor = options.experts.floor.value_or(plan->floor),
                .second_touch = options.experts.second_touch},
               options.experts.eviction));
    const ReplayCounters& counted = result.decode.tokens > 0 ? result.decode : result.prefill;
    const auto uses = static_cast<double>(counted.hits + counted.misses);
    if (uses == 0) return Fail(ErrorKind::kUsage, fmt::format("--trace {}: no token in it", flags_.trace));
    fit->hits = static_cast<double>(counted.hits) / uses;
    fit->forecast.hits_from = fmt::format("trace {}", flags_.trace);
    return {};
  }

  // What does not fit here runs on GPUs that hold all of it: nodes of eight with 80 GB, a tenth left for the
  // rest.
  static std::string ElsewhereLine(const FitModel& model) {
    constexpr double kNodeBytes = 8 * 80e9 * 0.9;
    const auto bytes = static_cast<double>(FiguresOf(model.checkpoint).bytes);
    const int nodes = static_cast<int>(std::ceil(bytes / kNodeBytes));
    return fmt::format(
        "elsewhere, with {} node{} of eight GPUs of 80 GB: vllm serve {} --tensor-parallel-size 8{}", nodes,
        nodes == 1 ? "" : "s", model.name,
        nodes == 1 ? "" : fmt::format(" --pipeline-parallel-size {}", nodes));
  }

  // What was asked for and what the plan made of it: reading it back gives the same plan.
  Status EmitPolicy(const EngineOptions& options, const Hardware& hardware, const FitAnswer& answer) {
    const Plan& plan = answer.plan;
    const auto set = [&](std::string_view name, PolicyValue value) -> Status {
      MORAINE_ASSIGN_OR_RETURN(const PolicyKey* key, FindPolicyKey(name));
      policy_.Set({.key = key, .value = std::move(value), .where = ""});
      return {};
    };
    MORAINE_RETURN_IF_ERROR(set("memory.ram", plan.tier("ram").have));
    MORAINE_RETURN_IF_ERROR(set("context.tokens", context_));
    MORAINE_RETURN_IF_ERROR(set("context.kv_type", std::string(Name(options.kv_type))));
    MORAINE_RETURN_IF_ERROR(set("prefill.chunk", int64_t{options.prefill_chunk}));
    if (!flags_.stated.isa.empty()) MORAINE_RETURN_IF_ERROR(set("cpu.isa", flags_.stated.isa));
    if (!plan.slots.empty()) {
      int64_t slots = 0;
      for (const int32_t n : plan.slots) slots += n;
      MORAINE_RETURN_IF_ERROR(set("cache.slots", slots));
      MORAINE_RETURN_IF_ERROR(set("cache.staging", int64_t{plan.staging}));
      MORAINE_RETURN_IF_ERROR(set("cache.floor_ram", int64_t{plan.floor}));
    }
    MORAINE_RETURN_IF_ERROR(set("measured.fingerprint", hardware.fingerprint));
    policy_.figures["predicted_decode_tok_s"] = answer.forecast.decode.tok_s;
    policy_.figures["predicted_prefill_tok_s"] = answer.forecast.prefill.tok_s;
    return WriteWhole(flags_.emit_policy, PolicyText(policy_));
  }

  static bool Holds(const Requirement& requirement, const FitReport& report) {
    double value = static_cast<double>(report.largest_context);
    if (requirement.figure != "context") {
      if (!report.answer) return false;
      const Forecast& forecast = report.answer->forecast;
      value = requirement.figure == "decode"    ? forecast.decode.tok_s
              : requirement.figure == "prefill" ? forecast.prefill.tok_s
                                                : forecast.first_token_s;
    }
    return requirement.at_most ? value <= requirement.least : value >= requirement.least;
  }

  Result<int> Print(const FitReport& report, const std::vector<Requirement>& requirements) const {
    const bool fits = report.answer.has_value();
    bool met = true;
    nlohmann::ordered_json required = nlohmann::ordered_json::array();
    for (const Requirement& requirement : requirements) {
      const bool holds = Holds(requirement, report);
      met = met && holds;
      required.push_back({{"require", requirement.text}, {"holds", holds}});
      if (!flags_.json && !holds)
        fmt::print(stderr, "moraine: --require {} does not hold\n", requirement.text);
    }
    if (flags_.json) {
      nlohmann::ordered_json json = FitJson(report);
      json["require"] = std::move(required);
      if (flags_.compare) json["compare"] = CompareJson(report);
      fmt::print("{}\n", json.dump());
    } else {
      fmt::print("{}", FitText(report, flags_.explain));
      if (flags_.compare) fmt::print("{}", CompareText(report));
    }
    return fits && met ? 0 : ExitCode(ErrorKind::kDoesNotFit);
  }

  Flags flags_;
  int64_t context_ = 0;
  PolicyLayer policy_;       // what somebody set
  std::string fingerprint_;  // of the machine a policy was made on
  std::vector<std::string> notices_;
};

void AddFlags(CLI::App* command, Flags* flags) {
  command->add_option("MODEL", flags->engine.model,
                      "A Hugging Face folder, a config.json, or deepseek-r1, deepseek-v3, v3.1, v2-lite,\n"
                      "moonlight, kimi-k2");
  AddPolicyFlags(*command, &flags->engine.policy);
  AddStatedHardwareFlags(*command, &flags->stated, StatedFlags::kWithoutPolicyFlags);
  command->add_option("--format", flags->format,
                      "Weights of a model that is not here: fp8, bf16, int8-g128, int4-g64, ...");
  command->add_option("--prompt-tokens", flags->prompt_tokens, "Length of the prompt")->capture_default_str();
  command->add_option("--position", flags->position, "Tokens in the cache while it answers")
      ->capture_default_str()
      ->group(kMoreFlags);
  command->add_option("--curve", flags->curve, "Hit rates: drifting, even (default: even for random weights)")
      ->group(kMoreFlags);
  command->add_option("--trace", flags->trace, "Hit rates from this trace (moraine run --trace)");
  command->add_option("--require", flags->require, "'decode>=5': exit code 1 unless it holds; repeatable")
      ->allow_extra_args(false);
  command->add_option("--html", flags->html, "Write the report as a page for a browser");
  command->add_option("--emit-policy", flags->emit_policy, "Write the plan as a policy file");
  command->add_flag("--measure", flags->measure, "Measure this machine first (seconds) and keep the figures");
  command->add_flag("--explain", flags->explain, "Show every formula and where each rate comes from");
  command->add_flag("--compare", flags->compare, "Beside public calculators and other engines")
      ->group(kMoreFlags);
  command->add_flag("--history", flags->history, "How good predictions have been here; needs no model")
      ->group(kMoreFlags);
  command->add_flag("--json", flags->json, "Print one JSON object");
}

}  // namespace

void AddFitCheck(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("fitcheck", "What fits here, how fast, and what limits it");
  AddFlags(command, flags.get());
  command->callback([flags, exit_code] {
    CatchInterrupts();
    const auto code = FitCheck(*flags).Run();
    *exit_code = code.has_value() ? *code : Report(code.error());
  });
}

}  // namespace moraine::tools
