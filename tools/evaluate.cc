// moraine eval: asks a file of questions whose answers are known, several at a time, and counts what is
// right.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "runtime/core/json_guard.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/think_splitter.h"
#include "runtime/text/tokenizer.h"
#include "tools/commands.h"
#include "tools/divergence.h"
#include "tools/engine_flags.h"
#include "tools/interrupt.h"

namespace moraine::tools {
namespace {

struct Flags {
  EngineFlags engine;
  std::string file;
  std::string against;  // empty: no second model
  int64_t limit = 0;
  int64_t max_tokens = 400;
  int32_t batch = 16;
  bool json = false;
  bool wrong = false;
};

struct Question {
  std::string prompt;
  std::string answer;
  std::string trace;  // reference reasoning; may be empty
  std::string kind;
};

struct Given {
  std::string answer;
  std::string reasoning;
  int64_t tokens = 0;
};

std::string Trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \n");
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \n") - first + 1);
}

// {"prompt": ..., "answer": ..., "trace": ..., "kind": ...} a line; the last two may be missing.
Result<std::vector<Question>> ReadQuestions(const std::string& path, int64_t limit) {
  std::ifstream file(path);
  if (!file) return Fail(ErrorKind::kUsage, fmt::format("{}: cannot be read", path));
  std::vector<Question> questions;
  std::string line;
  for (int64_t number = 1; std::getline(file, line) && (limit == 0 || number <= limit); ++number) {
    const std::string what = fmt::format("{}:{}", path, number);
    MORAINE_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(line, what));
    const auto field = [&](const char* name) {
      const auto found = json.is_object() ? json.find(name) : json.end();
      return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
    };
    Question question{field("prompt"), field("answer"), field("trace"), field("kind")};
    if (question.prompt.empty() || question.answer.empty()) {
      return Fail(ErrorKind::kUsage,
                  fmt::format("{}: expected an object with the strings \"prompt\" and \"answer\"", what));
    }
    questions.push_back(std::move(question));
  }
  if (questions.empty()) return Fail(ErrorKind::kUsage, fmt::format("{}: no questions", path));
  return questions;
}

// Greedy answers to `batch` questions at a time: each is prefilled alone, then all decode in one step.
class Asker {
 public:
  Asker(Engine* engine, const Tokenizer* tokenizer, const ChatTemplate* chat, int64_t max_tokens)
      : engine_(engine), tokenizer_(tokenizer), chat_(chat), max_tokens_(max_tokens) {}

  Result<std::vector<Given>> Ask(std::span<const Question> questions) {
    std::vector<Stream> streams;
    streams.reserve(questions.size());
    for (const Question& question : questions) {
      const Message message{.role = "user", .content = question.prompt};
      MORAINE_ASSIGN_OR_RETURN(const std::vector<TextPart> parts, chat_->Render({&message, 1}, {}));
      Stream& stream =
          streams.emplace_back(engine_->NewSequence(), ThinkSplitter(*tokenizer_, OpensThinking(parts)));
      MORAINE_ASSIGN_OR_RETURN(const std::span<const float> logits,
                               engine_->Prefill(&stream.sequence, EncodeChat(*tokenizer_, parts)));
      Take(logits, &stream);
    }
    MORAINE_RETURN_IF_ERROR(Decode(streams));
    std::vector<Given> given;
    given.reserve(streams.size());
    for (Stream& stream : streams) given.push_back(std::move(stream.given));
    return given;
  }

 private:
  struct Stream {
    Stream(Sequence sequence_in, ThinkSplitter splitter_in)
        : sequence(std::move(sequence_in)), splitter(std::move(splitter_in)) {}
    Sequence sequence;
    ThinkSplitter splitter;
    Given given;
    int32_t token = 0;
    bool done = false;
  };

  void Take(std::span<const float> logits, Stream* stream) {
    stream->token = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    const auto& eos = engine_->shape().eos_tokens;
    stream->done =
        std::find(eos.begin(), eos.end(), stream->token) != eos.end() || stream->given.tokens >= max_tokens_;
    const ThinkChunk chunk = stream->done ? stream->splitter.Finish() : stream->splitter.Push(stream->token);
    stream->given.answer += chunk.answer;
    stream->given.reasoning += chunk.reasoning;
    if (!stream->done) ++stream->given.tokens;
  }

  Status Decode(std::vector<Stream>& streams) {
    const auto vocab = static_cast<size_t>(engine_->shape().vocab);
    while (true) {
      if (Interrupted()) return Fail(ErrorKind::kInterrupted, "stopped");
      std::vector<StepInput> inputs;
      std::vector<Stream*> running;
      for (Stream& stream : streams) {
        if (stream.done) continue;
        inputs.push_back({&stream.sequence, {&stream.token, 1}});
        running.push_back(&stream);
      }
      if (inputs.empty()) return {};
      MORAINE_ASSIGN_OR_RETURN(const std::span<const float> logits, engine_->Step(inputs));
      for (size_t i = 0; i < running.size(); ++i) Take(logits.subspan(i * vocab, vocab), running[i]);
    }
  }

  Engine* engine_;
  const Tokenizer* tokenizer_;
  const ChatTemplate* chat_;
  int64_t max_tokens_;
};

struct Tally {
  int64_t asked = 0;
  int64_t right = 0;
  int64_t traces = 0;  // reasoning equal to the reference, to the letter
};

// The reference replies, "reasoning </think> answer" and the end, through both models. A question without a
// reference trace is left out.
Result<Divergence> Compare(const std::string& folder, const EngineOptions& options, Engine& model,
                           const Tokenizer& tokenizer, const ChatTemplate& chat,
                           std::span<const Question> questions) {
  MORAINE_ASSIGN_OR_RETURN(const auto exact, Engine::Open(folder, options));
  if (exact->shape().vocab != model.shape().vocab || exact->shape().eos_tokens.empty()) {
    return Fail(ErrorKind::kUsage, fmt::format("--against {}: {} tokens, the other model has {}: their "
                                               "predictions cannot be compared",
                                               folder, exact->shape().vocab, model.shape().vocab));
  }
  Divergence sum;
  for (const Question& question : questions) {
    if (Interrupted()) return Fail(ErrorKind::kInterrupted, "stopped");
    if (question.trace.empty()) continue;
    const Message message{.role = "user", .content = question.prompt};
    MORAINE_ASSIGN_OR_RETURN(std::vector<TextPart> parts, chat.Render({&message, 1}, {}));
    const std::vector<int32_t> prompt = EncodeChat(tokenizer, parts);
    const char* opening = OpensThinking(parts) ? "" : "<think>\n";
    const TextPart reply{fmt::format("{}{}\n</think>\n\n{}", opening, question.trace, question.answer),
                         false};
    std::vector<int32_t> ids = prompt;
    for (const int32_t id : EncodeChat(tokenizer, {&reply, 1})) ids.push_back(id);
    ids.push_back(exact->shape().eos_tokens.front());
    MORAINE_RETURN_IF_ERROR(AddDivergence(*exact, model, ids, static_cast<int64_t>(prompt.size()), &sum));
  }
  if (sum.positions == 0)
    return Fail(ErrorKind::kUsage,
                "--against needs questions with a \"trace\": the text both models are run on");
  return sum;
}

void Print(const Flags& flags, const Tally& all, const std::map<std::string, Tally>& kinds, int64_t tokens,
           const std::optional<Divergence>& divergence) {
  const auto share = [](int64_t part, int64_t whole) {
    return static_cast<double>(part) / static_cast<double>(whole);
  };
  if (flags.json) {
    nlohmann::ordered_json json = {{"schema", 1},
                                   {"asked", all.asked},
                                   {"right", all.right},
                                   {"accuracy", share(all.right, all.asked)},
                                   {"exact_traces", share(all.traces, all.asked)},
                                   {"tokens", tokens}};
    for (const auto& [kind, tally] : kinds)
      json["kinds"][kind] = {{"asked", tally.asked}, {"right", tally.right}};
    if (divergence) {
      json["against"] = {{"model", flags.against},
                         {"positions", divergence->positions},
                         {"kl_mean", divergence->mean()},
                         {"kl_most", divergence->kl_most},
                         {"same_top", share(divergence->same_top, divergence->positions)}};
    }
    fmt::print("{}\n", json.dump());
    return;
  }
  for (const auto& [kind, tally] : kinds)
    fmt::print("{:24} {:5} of {:5} right\n", kind, tally.right, tally.asked);
  fmt::print("{:24} {:5} of {:5} right: {:.1f} %; reasoning as the reference: {:.1f} %; {} tokens\n",
             flags.file, all.right, all.asked, 100 * share(all.right, all.asked),
             100 * share(all.traces, all.asked), tokens);
  if (!divergence) return;
  fmt::print("{:24} {} positions: mean KL {:.3e} nats, largest {:.3e}; same first choice: {:.3f} %\n",
             "against", divergence->positions, divergence->mean(), divergence->kl_most,
             100 * share(divergence->same_top, divergence->positions));
}

Status RunEval(const Flags& flags) {
  if (flags.batch < 1 || flags.batch > 256)
    return Fail(ErrorKind::kUsage, fmt::format("--batch is {}; expected 1 to 256", flags.batch));
  MORAINE_ASSIGN_OR_RETURN(const std::vector<Question> questions, ReadQuestions(flags.file, flags.limit));
  MORAINE_ASSIGN_OR_RETURN(EngineOptions options, MakeEngineOptions(flags.engine));
  options.sequences = flags.batch;
  if (options.context == 0) options.context = 1024;
  MORAINE_ASSIGN_OR_RETURN(const auto engine, Engine::Open(flags.engine.model, options));
  MORAINE_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::Open(flags.engine.model + "/tokenizer.json"));
  MORAINE_ASSIGN_OR_RETURN(const ChatTemplate chat, ChatTemplate::ForModel(flags.engine.model));
  Asker asker(engine.get(), tokenizer.get(), &chat, flags.max_tokens);
  Tally all;
  std::map<std::string, Tally> kinds;
  int64_t tokens = 0;
  for (size_t first = 0; first < questions.size(); first += static_cast<size_t>(flags.batch)) {
    const auto batch = std::span(questions).subspan(
        first, std::min(static_cast<size_t>(flags.batch), questions.size() - first));
    MORAINE_ASSIGN_OR_RETURN(const std::vector<Given> given, asker.Ask(batch));
    for (size_t i = 0; i < batch.size(); ++i) {
      const bool right = Trimmed(given[i].answer) == Trimmed(batch[i].answer);
      const bool trace = Trimmed(given[i].reasoning) == Trimmed(batch[i].trace);
      for (Tally* tally : {&all, &kinds[batch[i].kind]}) {
        ++tally->asked;
        tally->right += right ? 1 : 0;
        tally->traces += trace ? 1 : 0;
      }
      tokens += given[i].tokens;
      if (!right && flags.wrong) {
        fmt::print(stderr, "{}\n  expected {}\n  answered {}\n", batch[i].prompt, batch[i].answer,
                   Trimmed(given[i].answer));
      }
    }
  }
  std::optional<Divergence> divergence;
  if (!flags.against.empty()) {
    MORAINE_ASSIGN_OR_RETURN(divergence,
                             Compare(flags.against, options, *engine, *tokenizer, chat, questions));
  }
  Print(flags, all, kinds, tokens, divergence);
  return {};
}

}  // namespace

void AddEval(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app.add_subcommand("eval", "Ask a file of questions, greedily, and count the right answers");
  AddEngineFlags(*command, &flags->engine);
  command->add_option("QUESTIONS", flags->file, "JSON lines: {\"prompt\", \"answer\"[, \"trace\", \"kind\"]}")
      ->required();
  command->add_option("--against", flags->against,
                      "Also the mean KL(this other model || MODEL) along the reference replies");
  command->add_option("--limit", flags->limit, "Only the first so many");
  command->add_option("--batch", flags->batch, "Questions answered at once")->capture_default_str();
  command->add_option("--max-tokens", flags->max_tokens, "Per answer")->capture_default_str();
  command->add_flag("--wrong", flags->wrong, "Show wrong answers on stderr");
  command->add_flag("--json", flags->json, "Print one JSON object");
  command->callback([flags, exit_code] {
    CatchInterrupts();
    if (const Status status = RunEval(*flags); !status.has_value()) *exit_code = Report(status.error());
  });
}

}  // namespace moraine::tools
