// moraine chat: a conversation with a running server, on this terminal or from a pipe.
#include <fcntl.h>
#include <fmt/core.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "runtime/core/file.h"
#include "runtime/core/printable.h"
#include "tools/chat_client.h"
#include "tools/commands.h"
#include "tools/interrupt.h"
#include "tools/line_editor.h"
#include "tools/reply_printer.h"
#include "tools/server_access.h"

namespace moraine::tools {
namespace {

constexpr const char* kPrompt = "> ";
constexpr const char* kMore = "| ";
constexpr const char* kQuotes = "\"\"\"";  // around a question of several lines

struct Flags {
  std::string socket;
  std::string url;
  std::string api_key_file;
  std::string system;
  ChatOptions options;
};

Result<HttpTarget> Target(const Flags& flags) {
  if (!flags.url.empty()) return ParseHttpUrl(flags.url);
  return HttpTarget{.socket = flags.socket.empty() ? DefaultSocket() : flags.socket, .host = "", .port = ""};
}

// Never over a file that is there; for the user's eyes only.
Status WriteNew(const std::string& path, const std::string& text) {
  const auto fail = [&] {
    return Fail(ErrorKind::kUsage, fmt::format("{}: {}", Printable(path), std::strerror(errno)));
  };
  const Handle<FdTraits> file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file) return fail();
  for (size_t done = 0; done < text.size();) {
    const ssize_t wrote = ::write(file.get(), text.data() + done, text.size() - done);
    if (wrote < 0) return fail();
    done += static_cast<size_t>(wrote);
  }
  return {};
}

class Conversation {
 public:
  Conversation(Flags flags, ChatClient client) : flags_(std::move(flags)), client_(std::move(client)) {
    Clear();
  }

  Status Run() {
    MORAINE_ASSIGN_OR_RETURN(
        model_,
        client_.Open(
            flags_.options.model,
            [](const std::string& how_far) { fmt::print(stderr, "moraine: {}\n", how_far); }, &Interrupted));
    if (editor_.terminal())
      fmt::print(stderr, "{} at {}; /help for what else there is\n", model_, client_.server().Name());
    while (!over_) {
      std::string question;
      const LineEditor::Outcome outcome = ReadQuestion(&question);
      if (outcome == LineEditor::Outcome::kEnd) break;
      if (outcome == LineEditor::Outcome::kInterrupted) {
        if (!editor_.terminal()) return Fail(ErrorKind::kInterrupted, "stopped");
        fmt::print(stderr, "(Ctrl-D or /exit ends)\n");
        continue;
      }
      if (question.empty()) continue;
      Status status = question[0] == '/' ? Command(question) : Ask(question);
      if (status.has_value()) continue;
      // Who sits there can go on; a script hears of it.
      if (!editor_.terminal()) return status;
      Report(status.error());
    }
    return {};
  }

 private:
  // One line, or the lines between two of """.
  LineEditor::Outcome ReadQuestion(std::string* question) {
    LineEditor::Outcome outcome = editor_.Read(kPrompt, question);
    if (outcome != LineEditor::Outcome::kLine || *question != kQuotes) return outcome;
    question->clear();
    std::string line;
    while ((outcome = editor_.Read(kMore, &line)) == LineEditor::Outcome::kLine && line != kQuotes)
      *question += (question->empty() ? "" : "\n") + line;
    return outcome;
  }

  Status Ask(const std::string& question) {
    messages_.push_back({.role = "user", .content = question, .reasoning = ""});
    ReplyPrinter printer;
    auto reply = client_.Ask(
        messages_, flags_.options, [&](const ThinkChunk& chunk) { printer.Show(chunk); }, &Interrupted);
    printer.Finish();
    const bool stopped = Interrupted();
    ClearInterrupt();
    if (!reply.has_value()) {
      messages_.pop_back();
      return tl::unexpected(reply.error());
    }
    fmt::print(stderr, "{}\n", Figures(*reply));
    if (reply->text.empty() && reply->reasoning.empty()) {
      messages_.pop_back();  // nothing to go on from
    } else {
      messages_.push_back(
          {.role = "assistant", .content = std::move(reply->text), .reasoning = std::move(reply->reasoning)});
    }
    if (stopped && !editor_.terminal()) return Fail(ErrorKind::kInterrupted, "stopped");
    return {};
  }

  struct SlashCommand {
    const char* name;
    const char* help;
    Status (Conversation::*call)(const std::string& argument);
  };
  static const std::array<SlashCommand, 4>& Commands() {
    static const std::array<SlashCommand, 4> commands = {{
        {"/help", "what there is", &Conversation::Help},
        {"/clear", "forget the conversation", &Conversation::ClearCommand},
        {"/save", "FILE: write the conversation as JSON, as a server takes it", &Conversation::Save},
        {"/exit", "end, as Ctrl-D does; Ctrl-C stops an answer", &Conversation::Exit},
    }};
    return commands;
  }

  Status Command(const std::string& line) {
    const size_t space = line.find(' ');
    const std::string name = line.substr(0, space);
    std::string argument = space == line.npos ? "" : line.substr(space + 1);
    while (!argument.empty() && argument.back() == ' ') argument.pop_back();
    for (const SlashCommand& one : Commands()) {
      if (name == one.name) return (this->*one.call)(argument);
    }
    return Fail(ErrorKind::kUsage,
                fmt::format("{}: no such command; /help names them. A question that begins "
                            "with / goes between two lines of {}",
                            Printable(name, 40), kQuotes));
  }

  Status Help(const std::string&) {
    for (const SlashCommand& one : Commands()) fmt::print(stderr, "  {:<8}{}\n", one.name, one.help);
    fmt::print(stderr, "  {:<8}on a line of its own, before and after a question of several lines\n",
               kQuotes);
    return {};
  }

  Status ClearCommand(const std::string&) {
    Clear();
    fmt::print(stderr, "forgotten\n");
    return {};
  }

  Status Save(const std::string& path) {
    if (path.empty()) return Fail(ErrorKind::kUsage, "/save FILE: a name for the file is missing");
    nlohmann::ordered_json saved = {{"model", model_}, {"messages", nlohmann::ordered_json::array()}};
    for (const ChatMessage& message : messages_) {
      nlohmann::ordered_json one = {{"role", message.role}, {"content", message.content}};
      if (!message.reasoning.empty()) one["reasoning_content"] = message.reasoning;
      saved["messages"].push_back(std::move(one));
    }
    const auto replace = nlohmann::ordered_json::error_handler_t::replace;
    MORAINE_RETURN_IF_ERROR(WriteNew(path, saved.dump(2, ' ', false, replace) + "\n"));
    fmt::print(stderr, "{} messages in {}\n", messages_.size(), path);
    return {};
  }

  Status Exit(const std::string&) {
    over_ = true;
    return {};
  }

  void Clear() {
    messages_.clear();
    if (!flags_.system.empty())
      messages_.push_back({.role = "system", .content = flags_.system, .reasoning = ""});
  }

  const Flags flags_;
  const ChatClient client_;
  LineEditor editor_;
  std::string model_;
  std::vector<ChatMessage> messages_;
  bool over_ = false;
};

Status Chat(Flags flags) {
  MORAINE_ASSIGN_OR_RETURN(HttpTarget target, Target(flags));
  MORAINE_ASSIGN_OR_RETURN(std::string key, ApiKey(flags.api_key_file));
  return Conversation(std::move(flags), ChatClient(std::move(target), std::move(key))).Run();
}

}  // namespace

void AddChat(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("chat", "Talk to a running server");
  CLI::Option* socket = command->add_option(
      "--socket", flags->socket, "The server's Unix socket (default: where serve listens by default)");
  command->add_option("--url", flags->url, "The server's address instead, e.g. http://127.0.0.1:8080")
      ->excludes(socket);
  command
      ->add_option("--api-key-file", flags->api_key_file, "The key to show the server (or MORAINE_API_KEY)")
      ->envname("MORAINE_API_KEY_FILE");
  command->add_option("--model", flags->options.model, "One of the server's names (default: its first)");
  command->add_option("--system", flags->system, "System message of the conversation");
  command->add_option("--max-tokens", flags->options.max_tokens, "At most so many a reply")
      ->check(CLI::PositiveNumber);
  command->add_option("--temperature", flags->options.temperature,
                      "0: greedy (default: generation_config.json's)");
  command->add_option("--top-p", flags->options.top_p,
                      "Keep the likeliest tokens that reach this probability");
  command->add_option("--seed", flags->options.seed, "Same seed, same text (default: drawn)");
  command->callback([flags, exit_code] {
    CatchInterrupts();
    // Only Ctrl-C stops an answer; being told to end ends the program, also while it waits for a line.
    ::signal(SIGTERM, SIG_DFL);
    if (const Status status = Chat(std::move(*flags)); !status.has_value())
      *exit_code = Report(status.error());
  });
}

}  // namespace moraine::tools
