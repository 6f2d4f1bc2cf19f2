// moraine run: one prompt, one question or a conversation, answered on this terminal.
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include "runtime/text/tokenizer_config.h"
#include "tools/chat_session.h"
#include "tools/commands.h"
#include "tools/engine_flags.h"
#include "tools/interrupt.h"
#include "tools/prediction.h"
#include "tools/reply_printer.h"

namespace moraine::tools {
namespace {

struct Flags {
  EngineFlags engine;
  std::optional<std::string> prompt;
  std::optional<std::string> question;  // of --chat; empty string: the loop
  bool chat = false;
  std::string system;
  std::string prompt_ids;
  std::string ids_file;
  std::string trace;
  int64_t max_tokens = 0;
  std::optional<float> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<int32_t> top_k;
  std::optional<uint64_t> seed;
  bool greedy = false;
  bool ignore_eos = false;
  bool json = false;
};

// What the folder's files beside the weights give; both may be missing when ids go in and ids come out.
struct Text {
  std::unique_ptr<Tokenizer> tokenizer;
  std::optional<int32_t> bos;  // to put before plain prompts
};

Result<Text> OpenText(const std::string& folder, const ModelShape& shape) {
  Text text;
  MORAINE_ASSIGN_OR_RETURN(text.tokenizer, Tokenizer::Open(folder + "/tokenizer.json"));
  if (text.tokenizer->vocab_size() > shape.vocab) {
    return Fail(
        ErrorKind::kModel,
        fmt::format("{}: tokenizer.json has {} ids, config.json's vocab_size is {}: the two do not belong "
                    "together",
                    folder, text.tokenizer->vocab_size(), shape.vocab));
  }
  MORAINE_ASSIGN_OR_RETURN(const TokenizerConfig config, ReadTokenizerConfig(folder));
  if (config.add_bos_token) text.bos = text.tokenizer->TokenId(config.bos_token);
  return text;
}

// generation_config.json speaks first where it says to sample; flags win.
SamplingOptions Sampling(const Flags& flags, const GenerationDefaults& defaults, uint64_t seed) {
  SamplingOptions options{.seed = seed};
  options.temperature = flags.temperature.value_or(defaults.do_sample ? defaults.temperature : 0.f);
  options.top_p = flags.top_p.value_or(defaults.top_p);
  options.top_k = flags.top_k.value_or(defaults.top_k.value_or(0));
  options.min_p = flags.min_p.value_or(0.f);
  options.repetition_penalty = flags.repetition_penalty.value_or(1.f);
  options.presence_penalty = flags.presence_penalty.value_or(0.f);
  options.frequency_penalty = flags.frequency_penalty.value_or(0.f);
  if (flags.greedy) options.temperature = 0.f;
  return options;
}

Status CheckFlags(const Flags& flags) {
  const int inputs = (flags.prompt ? 1 : 0) + (flags.chat ? 1 : 0) + (flags.prompt_ids.empty() ? 0 : 1) +
                     (flags.ids_file.empty() ? 0 : 1);
  if (inputs != 1) {
    return Fail(ErrorKind::kUsage,
                "give one of --chat, --prompt, --prompt-ids and --ids-file (moraine run --help)");
  }
  if (flags.max_tokens < 0)
    return Fail(ErrorKind::kUsage, fmt::format("--max-tokens is {}; expected 1 or more", flags.max_tokens));
  if (flags.greedy && flags.temperature.value_or(0.f) != 0.f) {
    return Fail(ErrorKind::kUsage, "--greedy and --temperature contradict each other; give one");
  }
  return {};
}

// One run of the command: everything opened, ready to answer.
class Runner {
 public:
  explicit Runner(const Flags& flags) : flags_(flags), seed_(flags.seed.value_or(std::random_device()())) {}

  Status Run() {
    MORAINE_RETURN_IF_ERROR(CheckFlags(flags_));
    MORAINE_RETURN_IF_ERROR(Open());
    if (flags_.chat && !flags_.question) return Loop();
    MORAINE_ASSIGN_OR_RETURN(const Reply reply, Answer());
    if (reply.generated.reason == FinishReason::kInterrupted) return Fail(ErrorKind::kInterrupted, "stopped");
    return {};
  }

 private:
  Status Open() {
    MORAINE_ASSIGN_OR_RETURN(EngineOptions options, MakeEngineOptions(flags_.engine));
    options.trace = flags_.trace;
    const std::string& folder = flags_.engine.model;
    MORAINE_ASSIGN_OR_RETURN(engine_, Engine::Open(folder, options));
    generate_.sampling = Sampling(flags_, engine_->generation(), seed_);
    MORAINE_RETURN_IF_ERROR(CheckSampling(generate_.sampling));
    generate_.max_tokens = flags_.max_tokens;
    if (!flags_.ignore_eos) generate_.stop_tokens = engine_->shape().eos_tokens;

    auto text = OpenText(folder, engine_->shape());
    if (text.has_value()) {
      text_ = std::move(*text);
    } else if (flags_.chat || flags_.prompt) {
      return tl::unexpected(text.error());
    } else {
      fmt::print(stderr, "moraine: {}; printing ids only\n", text.error().message);
    }
    if (flags_.chat) {
      MORAINE_ASSIGN_OR_RETURN(template_, ChatTemplate::ForModel(folder));
    }
    if (!flags_.json) fmt::print(stderr, "{}\n", engine_->Describe());
    SayNotices();
    session_.emplace(engine_.get(), text_.tokenizer.get());
    if (!flags_.system.empty()) session_->SetSystem(flags_.system);
    return {};
  }

  Result<Reply> Answer() {
    if (flags_.chat)
      return Show([&](const ReplySink& sink) {
        return session_->Ask(*template_, *flags_.question, generate_, sink);
      });
    if (flags_.prompt)
      return Show([&](const ReplySink& sink) {
        return session_->Continue(*flags_.prompt, text_.bos, generate_, sink);
      });
    MORAINE_ASSIGN_OR_RETURN(std::vector<int32_t> ids, flags_.ids_file.empty()
                                                           ? ParseIds(flags_.prompt_ids, "--prompt-ids")
                                                           : ReadIdsFile(flags_.ids_file));
    return Show([&](const ReplySink& sink) { return session_->Continue(std::move(ids), generate_, sink); });
  }

  // What has come up since the last time.
  void SayNotices() {
    const std::vector<std::string> notices = engine_->Notices();
    for (; notices_said_ < notices.size(); ++notices_said_)
      fmt::print(stderr, "notice: {}\n", notices[notices_said_]);
  }

  // Streams and ends with the figures, or prints the one object.
  template <typename Ask>
  Result<Reply> Show(Ask&& ask) {
    ReplyPrinter printer;
    const ReplySink sink = flags_.json ? ReplySink() : [&](const ThinkChunk& chunk) { printer.Show(chunk); };
    Result<Reply> reply = ask(sink);
    if (!flags_.json) printer.Finish();
    SayNotices();
    if (!reply.has_value()) return reply;
    const auto tokens = static_cast<int64_t>(reply->generated.tokens.size());
    if (!predictor_) predictor_ = Predictor::Create(*engine_, flags_.engine.model, /*forced=*/false);
    std::optional<Prediction> prediction;
    if (predictor_)
      prediction = predictor_->Predict(reply->generated.prompt_tokens - reply->reused_tokens, tokens);
    if (flags_.json) {
      fmt::print("{}\n", ReplyJson(*reply, seed_, engine_->PrefillReport(), prediction));
    } else {
      if (text_.tokenizer == nullptr) fmt::print("{}\n", fmt::join(reply->generated.tokens, ","));
      fmt::print(stderr, "{}\n", Figures(*reply, seed_));
    }
    if (prediction && tokens >= kLeastTokens) {
      const RunFigures measured = MeasuredFigures(*reply);
      if (!flags_.json) fmt::print(stderr, "{}\n", PredictionText(*prediction, measured));
      AppendHistory(HistoryPath(), "run", flags_.engine.model, *prediction, measured);
    }
    return reply;
  }

  // Questions until the end of input; Ctrl-C stops an answer, and at the prompt the program.
  Status Loop() {
    const bool terminal = isatty(STDIN_FILENO) != 0;
    if (terminal) fmt::print(stderr, "Ask; an empty line or Ctrl-D ends.\n");
    while (true) {
      if (terminal) fmt::print(stderr, "> ");
      std::string question;
      if (!std::getline(std::cin, question) || (terminal && question.empty())) break;
      if (question.empty()) continue;
      flags_.question = question;
      const Result<Reply> reply = Answer();
      ClearInterrupt();
      if (reply.has_value()) continue;
      // A question too long for what is left of the context ends the question, not the program.
      if (reply.error().kind != ErrorKind::kUsage) return tl::unexpected(reply.error());
      Report(reply.error());
    }
    if (Interrupted()) return Fail(ErrorKind::kInterrupted, "stopped");
    return {};
  }

  Flags flags_;
  uint64_t seed_;
  std::unique_ptr<Engine> engine_;
  size_t notices_said_ = 0;
  Text text_;
  std::optional<ChatTemplate> template_;
  GenerateOptions generate_;
  std::optional<ChatSession> session_;
  std::optional<Predictor> predictor_;  // made with the first answer
};

void AddSampling(CLI::App& command, Flags* flags) {
  command.add_option("--temperature", flags->temperature, "0: greedy (default: generation_config.json's)");
  command.add_option("--top-p", flags->top_p, "Keep the likeliest tokens that reach this probability");
  command.add_option("--top-k", flags->top_k, "Keep so many tokens; 0: all");
  command.add_option("--min-p", flags->min_p, "Drop tokens below this share of the likeliest");
  command.add_option("--repetition-penalty", flags->repetition_penalty,
                     "Above 1: tokens seen become less likely");
  command.add_option("--presence-penalty", flags->presence_penalty, "Subtracted once for a token generated");
  command.add_option("--frequency-penalty", flags->frequency_penalty,
                     "Subtracted each time it was generated");
  command.add_option("--seed", flags->seed, "Same seed, same text (default: drawn, and printed)");
  command.add_flag("--greedy", flags->greedy, "Always the likeliest token");
}

}  // namespace

void AddRun(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("run", "Answer a prompt, a question or a conversation");
  AddEngineFlags(*command, &flags->engine);
  CLI::Option* chat =
      command->add_option("--chat", flags->question, "Ask one question, or without it a conversation")
          ->expected(0, 1);
  command->add_option("--prompt", flags->prompt, "Continue this text as it is");
  command->add_option("--prompt-ids", flags->prompt_ids,
                      "Continue these token ids (5,17,...); nothing is prepended");
  command->add_option("--ids-file", flags->ids_file, "The same from a file");
  command->add_option("--system", flags->system, "System message of the conversation");
  command->add_option("--max-tokens", flags->max_tokens,
                      "Stop after so many (default: when the context is full)");
  command->add_option("--trace", flags->trace,
                      "Record what the routers choose in this file (moraine replay)");
  AddSampling(*command, flags.get());
  command->add_flag("--ignore-eos", flags->ignore_eos, "Go on after the end-of-text token");
  command->add_flag("--json", flags->json, "Print one JSON object instead of streaming");
  command->callback([flags, chat, exit_code] {
    CatchInterrupts();
    flags->chat = chat->count() > 0;
    if (flags->question && flags->question->empty()) flags->question.reset();
    if (const Status status = Runner(*flags).Run(); !status.has_value()) *exit_code = Report(status.error());
  });
}

}  // namespace moraine::tools
