// moraine tokenize: text to token ids and back, with a model's own tokenizer.json.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/core/file.h"
#include "runtime/text/detokenizer.h"
#include "runtime/text/tokenizer.h"
#include "tools/commands.h"

namespace moraine::tools {
namespace {

struct Options {
  std::string model;
  std::string text;
  std::string file;
  std::string decode;
  bool has_text = false;
  bool has_decode = false;
  bool ids_only = false;
  bool added = false;
  bool json = false;
  bool skip_special = false;
};

// Ids separated by commas, blanks or brackets: what --ids and --json print.
Result<std::vector<int32_t>> ParseIds(std::string_view list) {
  std::vector<int32_t> ids;
  const char* at = list.data();
  const char* const end = at + list.size();
  while (at != end) {
    if (std::string_view(", \t\r\n[]").find(*at) != std::string_view::npos) {
      ++at;
      continue;
    }
    int32_t id = 0;
    const auto [next, error] = std::from_chars(at, end, id);
    if (error != std::errc() || id < 0) {
      return Fail(ErrorKind::kUsage, fmt::format("--decode: expected token ids, found \"{}\"",
                                                 std::string(at, std::min(end, at + 20))));
    }
    ids.push_back(id);
    at = next;
  }
  return ids;
}

Result<std::string> ReadInput(const Options& options) {
  if (options.has_text) return options.text;
  if (!options.file.empty()) return ReadText(options.file, int64_t{1} << 30);
  return std::string(std::istreambuf_iterator<char>(std::cin), {});
}

// A piece on one line: what is not text is shown as JSON escapes, bytes of a split code point as U+FFFD.
std::string Shown(const Tokenizer& tokenizer, int32_t id) {
  return nlohmann::json(Decode(tokenizer, {&id, 1})).dump();
}

void PrintIds(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, const Options& options) {
  if (options.json) {
    std::vector<std::string> pieces;
    pieces.reserve(ids.size());
    for (const int32_t id : ids) pieces.push_back(Decode(tokenizer, {&id, 1}));
    fmt::print("{}\n", nlohmann::json({{"count", ids.size()}, {"ids", ids}, {"pieces", pieces}}).dump());
  } else if (options.ids_only) {
    fmt::print("{}\n", fmt::join(ids, " "));
  } else {
    for (const int32_t id : ids) fmt::print("{:>7}  {}\n", id, Shown(tokenizer, id));
    fmt::print("{} tokens\n", ids.size());
  }
}

Status Run(const Options& options) {
  std::error_code not_there;
  const bool is_folder = std::filesystem::is_directory(options.model, not_there);
  MORAINE_ASSIGN_OR_RETURN(const auto tokenizer,
                           Tokenizer::Open(is_folder ? options.model + "/tokenizer.json" : options.model));
  if (options.has_decode) {
    MORAINE_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, ParseIds(options.decode));
    const std::string text = Decode(*tokenizer, ids, {.skip_special = options.skip_special});
    fmt::print("{}\n", options.json ? nlohmann::json({{"text", text}}).dump() : text);
    return {};
  }
  MORAINE_ASSIGN_OR_RETURN(const std::string text, ReadInput(options));
  PrintIds(*tokenizer, options.added ? tokenizer->EncodeWithAddedTokens(text) : tokenizer->Encode(text),
           options);
  return {};
}

}  // namespace

void AddTokenize(CLI::App& app, int* exit_code) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("tokenize", "Shows how a model's tokenizer reads a text, or decodes ids.");
  command->add_option("MODEL", options->model, "Model folder or tokenizer.json")->required();
  auto* text = command->add_option("--text", options->text, "The text; without it and --file, stdin is read");
  auto* file = command->add_option("--file", options->file, "Read the text from a file")->excludes(text);
  auto* decode = command->add_option("--decode", options->decode, "Print the text of these ids instead");
  decode->excludes(text)->excludes(file);
  command->add_flag("--ids", options->ids_only, "Print the ids on one line");
  command->add_flag("--json", options->json, "Print one JSON object");
  command->add_flag("--added", options->added,
                    "Let the text spell added tokens such as <think>; off for user text");
  command->add_flag("--skip-special", options->skip_special,
                    "With --decode: leave out BOS, EOS and the like");
  command->callback([options, text, decode, exit_code] {
    options->has_text = text->count() > 0;
    options->has_decode = decode->count() > 0;
    const Status status = Run(*options);
    *exit_code = status ? 0 : Report(status.error());
  });
}

}  // namespace moraine::tools
