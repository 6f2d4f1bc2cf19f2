// moraine tune: a better policy for a model on this machine, found by runs from end to end.
#include <fmt/chrono.h>
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/hardware_read.h"
#include "tools/bench/read_bandwidth.h"
#include "tools/commands.h"
#include "tools/engine_flags.h"
#include "tools/interrupt.h"
#include "tools/timed_run.h"
#include "tools/tune_axes.h"
#include "tools/tune_policy.h"
#include "tools/tune_search.h"
#include "tools/whole_file.h"

namespace moraine::tools {
namespace {

using Prompts = std::vector<std::vector<int32_t>>;

struct Flags {
  EngineFlags engine;
  std::string out;
  std::vector<std::string> ids_files;
  double minutes = 20;
  int64_t prompt_tokens = 64;
  int64_t tokens = 32;
  bool json = false;
};

// Of random prompts; two thirds of those of --ids-file are searched with, the rest are held out.
constexpr int kRandomPrompts = 3;
constexpr int kRandomHeldOut = 2;

// The real engine. It stays open while the policy stays the same, so that two runs of one policy in a row
// load once; a new one is warmed by all prompts before it is timed.
class EngineRunner : public TuneRunner {
 public:
  EngineRunner(std::string model, Policy policy, int64_t tokens)
      : model_(std::move(model)), policy_(std::move(policy)), tokens_(tokens) {}

  /// Opens the policy as it is: what the keys are chosen by.
  Status Open() { return OpenAt({}); }
  void Prepare(std::vector<TuneKey> keys, Prompts prompts, Prompts held_out) {
    keys_ = std::move(keys);
    for (const TuneKey& key : keys_) open_.push_back(key.axis.start);
    prompts_ = std::move(prompts);
    held_out_ = std::move(held_out);
  }
  const Engine& engine() const { return *engine_; }

  Result<TuneRun> Run(const TunePoint& point, bool held_out) override {
    if (engine_ == nullptr || point != open_) MORAINE_RETURN_IF_ERROR(OpenAt(point));
    // All of them: a run after another of the same policy must not be the warmer one.
    for (size_t i = 0; !warm_ && i < prompts_.size(); ++i) MORAINE_RETURN_IF_ERROR(RunOne(prompts_[i]));
    warm_ = true;
    TuneRun sum;
    double prompt_s = 0;
    double answer_s = 0;
    double prompt_tokens = 0;
    int64_t hits = 0;
    int64_t misses = 0;
    const Prompts& prompts = held_out ? held_out_ : prompts_;
    for (const std::vector<int32_t>& prompt : prompts) {
      MORAINE_ASSIGN_OR_RETURN(const Timed timed, RunOne(prompt));
      prompt_s += timed.prompt_s;
      answer_s += timed.answer.seconds;
      prompt_tokens += static_cast<double>(prompt.size());
      hits += timed.answer.read.expert_hits;
      misses += timed.answer.read.expert_misses;
    }
    const auto answer_tokens = static_cast<double>(tokens_) * static_cast<double>(prompts.size());
    return TuneRun{
        .seconds = prompt_s + answer_s,
        .decode_tok_s = answer_tokens / answer_s,
        .prefill_tok_s = prompt_tokens / prompt_s,
        .hit_rate = hits + misses == 0 ? 1 : static_cast<double>(hits) / static_cast<double>(hits + misses)};
  }
  double Elapsed() const override { return Seconds() - start_; }

 private:
  struct Timed {
    double prompt_s;
    TimedAnswer answer;
  };

  Status OpenAt(const TunePoint& point) {
    engine_.reset();  // two do not fit
    warm_ = false;
    EngineOptions options;
    options.progress = [](int64_t, int64_t) { return !Interrupted(); };
    ApplyPolicy(point.empty() ? policy_ : PolicyAt(policy_, keys_, point), &options);
    MORAINE_ASSIGN_OR_RETURN(engine_, Engine::Open(model_, options));
    open_ = point;
    return {};
  }

  Result<Timed> RunOne(std::span<const int32_t> prompt) {
    Sequence sequence = engine_->NewSequence();
    std::vector<int32_t> ids;
    MORAINE_ASSIGN_OR_RETURN(const double prompt_s, TimePrompt(engine_.get(), &sequence, prompt, &ids));
    MORAINE_ASSIGN_OR_RETURN(const TimedAnswer answer, TimeAnswer(engine_.get(), &sequence, tokens_, &ids));
    return Timed{prompt_s, answer};
  }

  std::string model_;
  Policy policy_;
  int64_t tokens_;
  std::vector<TuneKey> keys_;
  Prompts prompts_;
  Prompts held_out_;
  std::unique_ptr<Engine> engine_;
  TunePoint open_;
  bool warm_ = false;
  double start_ = Seconds();
};

class Tune {
 public:
  explicit Tune(Flags flags) : flags_(std::move(flags)) {}

  Status Run() {
    MORAINE_RETURN_IF_ERROR(CheckFlags());
    MORAINE_ASSIGN_OR_RETURN(
        const ResolvedPolicy user,
        ResolveFlags(flags_.engine.policy, [](const char* name) { return std::getenv(name); }));
    fmt::print(stderr, "{}", DescribePolicy(user));
    for (const std::string& notice : user.notices) fmt::print(stderr, "moraine: {}\n", notice);
    MORAINE_ASSIGN_OR_RETURN(const Hardware hardware, ReadHardware(flags_.engine.model, {.nvml = ""}));

    EngineRunner runner(flags_.engine.model, user.policy, flags_.tokens);
    MORAINE_RETURN_IF_ERROR(runner.Open());
    fmt::print(stderr, "{}\n", runner.engine().Describe());
    MORAINE_RETURN_IF_ERROR(MakePrompts(runner.engine()));
    const TuneScene scene{
        .streamed = !runner.engine().plan().holds_all && runner.engine().shape().moe_layers() > 0,
        .workers = hardware.workers,
        .hardware_threads = hardware.hardware_threads,
        .longest_prompt = longest_prompt_};
    keys_ = TuneKeys(user.policy, scene);
    runner.Prepare(keys_, prompts_, held_out_);
    std::vector<TuneAxis> axes;
    for (const TuneKey& key : keys_) axes.push_back(key.axis);
    fmt::print(stderr, "tune      at most {:.0f} minutes; {}\n", flags_.minutes, PromptsText());
    MORAINE_ASSIGN_OR_RETURN(const TuneOutcome outcome,
                             TuneSearch(axes, &runner,
                                        {.limit_s = 60 * flags_.minutes,
                                         .started = [&](double run_s) { PrintExpected(axes, run_s); },
                                         .tried =
                                             [&](const TuneTrial& trial) {
                                               fmt::print(stderr, "{:5.1f} min {}\n", runner.Elapsed() / 60,
                                                          TrialText(keys_, trial));
                                             }}));
    const TuneOrigin origin{.model = flags_.engine.model,
                            .fingerprint = hardware.fingerprint,
                            .date = fmt::format("{:%Y-%m-%d}", fmt::gmtime(std::time(nullptr))),
                            .prompts = PromptsText()};
    const std::string text = TunedPolicyText(user, keys_, outcome, origin);
    if (!flags_.out.empty()) MORAINE_RETURN_IF_ERROR(WriteWhole(flags_.out, text));
    Print(outcome, text, runner.Elapsed());
    return {};
  }

 private:
  Status CheckFlags() const {
    if (!(flags_.minutes > 0 && flags_.minutes <= 10080) || flags_.prompt_tokens < 1 || flags_.tokens < 1) {
      return Fail(
          ErrorKind::kUsage,
          fmt::format("--minutes is {}, --prompt-tokens {}, --tokens {}; expected more than 0 (and at "
                      "most 10080 minutes)",
                      flags_.minutes, flags_.prompt_tokens, flags_.tokens));
    }
    if (flags_.ids_files.size() == 1)
      return Fail(ErrorKind::kUsage, "--ids-file is given once; expected two or more: some are held out");
    return {};
  }

  Status MakePrompts(const Engine& engine) {
    for (size_t i = 0; i < flags_.ids_files.size(); ++i) {
      const bool held_out = i % 3 == 2 || (i == 1 && flags_.ids_files.size() == 2);
      MORAINE_ASSIGN_OR_RETURN(std::vector<int32_t> ids, ReadIdsFile(flags_.ids_files[i]));
      (held_out ? held_out_ : prompts_).push_back(std::move(ids));
    }
    for (uint32_t i = 0; flags_.ids_files.empty() && i < kRandomPrompts + kRandomHeldOut; ++i) {
      (i < kRandomPrompts ? prompts_ : held_out_)
          .push_back(RandomPrompt(flags_.prompt_tokens, engine.shape().vocab, i + 1));
    }
    for (const Prompts* prompts : {&prompts_, &held_out_}) {
      for (const std::vector<int32_t>& prompt : *prompts)
        longest_prompt_ = std::max(longest_prompt_, static_cast<int64_t>(prompt.size()));
    }
    if (longest_prompt_ + flags_.tokens > engine.context()) {
      return Fail(ErrorKind::kUsage,
                  fmt::format("a prompt of {} tokens and {} more do not fit the context of {}; raise --ctx",
                              longest_prompt_, flags_.tokens, engine.context()));
    }
    return {};
  }

  std::string PromptsText() const {
    return fmt::format("{} prompts and {} held out, {}, an answer of {} tokens to each", prompts_.size(),
                       held_out_.size(),
                       flags_.ids_files.empty() ? fmt::format("{} random tokens each", flags_.prompt_tokens)
                                                : fmt::format("of at most {} tokens", longest_prompt_),
                       flags_.tokens);
  }

  // Most values change nothing and are given up after two or three rounds.
  void PrintExpected(const std::vector<TuneAxis>& axes, double run_s) const {
    constexpr double kRunsAValue = 5;
    size_t values = 0;
    for (const TuneAxis& axis : axes)
      values += axis.ordered ? std::min<size_t>(3, axis.values) - 1 : axis.values - 1;
    fmt::print(
        stderr,
        "          a run takes {:.1f} s; some {} values in about {:.0f} minutes, or until time is up\n",
        run_s, values,
        std::min(flags_.minutes, (kRunsAValue * static_cast<double>(values) + 2 * kMostRounds) * run_s / 60));
  }

  void Print(const TuneOutcome& outcome, const std::string& text, double seconds) const {
    const bool changed = outcome.best != outcome.start;
    if (flags_.json) {
      fmt::print("{}\n",
                 Json(outcome, text, seconds).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    } else if (flags_.out.empty()) {
      fmt::print("{}", text);
    }
    if (outcome.before && outcome.after) {
      fmt::print(stderr,
                 "held out  x{:.3f}; decode {:.2f} -> {:.2f} tok/s, prompts {:.1f} -> {:.1f} tok/s{}\n",
                 Median(outcome.held_ratios), outcome.before->decode_tok_s, outcome.after->decode_tok_s,
                 outcome.before->prefill_tok_s, outcome.after->prefill_tok_s,
                 changed ? "" : "; not confirmed: the policy stays");
    } else {
      fmt::print(stderr, "nothing gains {:.1f} % or more: the policy stays\n", 100 * (outcome.gain - 1));
    }
    if (outcome.out_of_time)
      fmt::print(stderr, "moraine: values were left untried; --minutes gives more time\n");
    if (!flags_.out.empty()) fmt::print(stderr, "{}: written\n", flags_.out);
  }

  nlohmann::ordered_json Json(const TuneOutcome& outcome, const std::string& text, double seconds) const {
    const auto run = [](const std::optional<TuneRun>& r) {
      return r ? nlohmann::ordered_json{{"seconds", r->seconds},
                                        {"decode_tok_s", r->decode_tok_s},
                                        {"prefill_tok_s", r->prefill_tok_s},
                                        {"hit_rate", r->hit_rate}}
               : nlohmann::ordered_json();
    };
    nlohmann::ordered_json trials = nlohmann::ordered_json::array();
    for (const TuneTrial& trial : outcome.trials) {
      const TuneKey& key = keys_[trial.axis];
      trials.push_back({{"key", key.axis.name},
                        {"from", FormatPolicyValue(*key.key, key.values[trial.from])},
                        {"to", FormatPolicyValue(*key.key, key.values[trial.to])},
                        {"ratios", trial.ratios},
                        {"accepted", trial.verdict == Verdict::kAccepted},
                        {"refused", trial.refused}});
    }
    return {{"schema", 1},
            {"model", flags_.engine.model},
            {"changed", outcome.best != outcome.start},
            {"gain", outcome.held_ratios.empty() ? 1.0 : Median(outcome.held_ratios)},
            {"held_out_ratios", outcome.held_ratios},
            {"before", run(outcome.before)},
            {"after", run(outcome.after)},
            {"noise", outcome.noise},
            {"least_gain", outcome.gain},
            {"out_of_time", outcome.out_of_time},
            {"seconds", seconds},
            {"trials", std::move(trials)},
            {"policy", text}};
  }

  Flags flags_;
  Prompts prompts_;
  Prompts held_out_;
  int64_t longest_prompt_ = 0;
  std::vector<TuneKey> keys_;
};

}  // namespace

void AddTune(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app.add_subcommand("tune", "Search a faster policy for a model here, by runs from end to end");
  AddEngineFlags(*command, &flags->engine);
  command->add_option("--out", flags->out, "Write the policy here (default: print it)");
  command->add_option("--minutes", flags->minutes, "Stop after so long")->capture_default_str();
  command
      ->add_option("--ids-file", flags->ids_files,
                   "A prompt of these token ids; twice or more (default: random)")
      ->allow_extra_args(false);
  command->add_option("--prompt-tokens", flags->prompt_tokens, "Length of random prompts")
      ->capture_default_str();
  command->add_option("--tokens", flags->tokens, "Tokens to answer each prompt with")->capture_default_str();
  command->add_flag("--json", flags->json, "Print one JSON object");
  command->callback([flags, exit_code] {
    CatchInterrupts();
    if (const Status status = Tune(*flags).Run(); !status.has_value()) *exit_code = Report(status.error());
  });
}

}  // namespace moraine::tools
