// moraine manual: a man page of a command, from the command line itself.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/version.h"
#include "tools/command_line.h"
#include "tools/commands.h"
#include "tools/whole_file.h"

namespace moraine::tools {
namespace {

constexpr const char* kDate = "2026-11-25";  // of the version

// Text in roff: a hyphen that can be copied, and no line that begins a request.
std::string Roff(std::string_view text) {
  std::string out;
  if (!text.empty() && (text[0] == '.' || text[0] == '\'')) out = "\\&";
  for (const char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  return out;
}

std::string Upper(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::toupper(c); });
  return text;
}

std::string FlagsSection(const CommandText& command) {
  std::string text = ".SH OPTIONS\n";
  for (const FlagText& flag : command.flags) {
    text += ".TP\n";
    for (const std::string& name : flag.names)
      text += fmt::format("{}\\fB{}\\fR", name == flag.names.front() ? "" : ", ", Roff(name));
    if (!flag.value.empty()) text += fmt::format(" \\fI{}\\fR", Roff(flag.value));
    text += fmt::format("\n{}\n", Roff(flag.help));
    if (!flag.variable.empty()) text += fmt::format("(environment:\n.BR {} )\n", Roff(flag.variable));
  }
  return text;
}

std::string Page(const std::vector<CommandText>& all, const CommandText& command) {
  std::string text = fmt::format(".TH {} 1 {} \"moraine {}\" \"Moraine\"\n.SH NAME\n{} \\- {}\n",
                                 Upper(CommandName(command, "-")), kDate, Version(),
                                 Roff(CommandName(command, "-")), Roff(command.help));
  text += fmt::format(".SH SYNOPSIS\n.B {}\n[\\fIOPTIONS\\fR]", Roff(CommandName(command)));
  for (const ArgumentText& argument : command.arguments)
    text += (argument.required ? " \\fI" : " [\\fI") + Roff(argument.name) +
            (argument.required ? "\\fR" : "\\fR]");
  text += command.commands.empty() ? "\n" : " \\fICOMMAND\\fR ...\n";
  if (!command.arguments.empty()) text += ".SH ARGUMENTS\n";
  for (const ArgumentText& argument : command.arguments)
    text += fmt::format(".TP\n\\fI{}\\fR\n{}\n", Roff(argument.name), Roff(argument.help));
  if (!command.commands.empty()) text += ".SH COMMANDS\n";
  for (const CommandText& below : all) {
    const bool is_below = below.words.size() == command.words.size() + 1 &&
                          std::equal(command.words.begin(), command.words.end(), below.words.begin());
    if (is_below)
      text += fmt::format(".TP\n.BR {} (1)\n{}\n", Roff(CommandName(below, "-")), Roff(below.help));
  }
  text += FlagsSection(command);
  if (!command.footer.empty()) text += fmt::format(".SH NOTES\n{}\n", Roff(command.footer));
  if (!command.words.empty()) text += ".SH SEE ALSO\n.BR moraine (1)\n";
  return text;
}

struct Flags {
  std::vector<std::string> words;
  std::string into;
};

Status Run(const std::vector<CommandText>& all, const Flags& flags) {
  if (!flags.into.empty()) {
    for (const CommandText& command : all) {
      const std::string path = fmt::format("{}/{}.1", flags.into, CommandName(command, "-"));
      MORAINE_RETURN_IF_ERROR(WriteWhole(path, Page(all, command)));
    }
    return {};
  }
  const auto found = std::ranges::find(all, flags.words, &CommandText::words);
  if (found == all.end()) return Fail(ErrorKind::kUsage, "no such command; moraine --help names them");
  fmt::print("{}", Page(all, *found));
  return {};
}

}  // namespace

void AddManual(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("manual", "Print the man page of a command");
  command->add_option("COMMAND", flags->words, "serve, policy check, ... (default: moraine itself)");
  command->add_option("--into", flags->into, "Write the page of every command into this folder instead");
  command->footer(
      "moraine manual serve | man -l -\n\nExit codes: 0 ok, 2 usage, 5 the folder cannot be written.");
  command->callback([&app, flags, exit_code] {
    if (const Status status = Run(DescribeCommands(app), *flags); !status.has_value())
      *exit_code = Report(status.error());
  });
}

}  // namespace moraine::tools
