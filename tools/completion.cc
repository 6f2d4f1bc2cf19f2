// moraine completion: what a shell needs to complete commands and flags, from the command line itself.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tools/command_line.h"
#include "tools/commands.h"

namespace moraine::tools {
namespace {

std::string Words(const CommandText& command) {
  std::string words;
  for (const std::string& name : command.commands) words += name + " ";
  for (const FlagText& flag : command.flags) {
    for (const std::string& name : flag.names) words += name + " ";
  }
  if (!words.empty()) words.pop_back();
  return words;
}

std::string Joined(const std::vector<std::string>& words) {
  std::string joined;
  for (const std::string& word : words) joined += (joined.empty() ? "" : " ") + word;
  return joined;
}

// Between single quotes, as bash and zsh read them.
std::string Quoted(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// The words before the cursor, as far as they are commands: `which` becomes "policy check".
std::string WalkOfWords(const std::vector<CommandText>& commands, std::string_view words_before) {
  std::string text =
      fmt::format("  local which= word\n  for word in {}; do\n    case \"$which $word\" in\n", words_before);
  for (const CommandText& command : commands) {
    if (command.words.empty()) continue;
    std::vector<std::string> above(command.words.begin(), command.words.end() - 1);
    text += fmt::format("      {}) which={} ;;\n", Quoted(Joined(above) + " " + command.words.back()),
                        Quoted(Joined(command.words)));
  }
  return text + "    esac\n  done\n";
}

std::string Bash(const std::vector<CommandText>& commands) {
  std::string text = "# moraine completion bash\n_moraine() {\n" +
                     WalkOfWords(commands, "\"${COMP_WORDS[@]:1:COMP_CWORD-1}\"") +
                     "  local words=\n  case $which in\n";
  for (const CommandText& command : commands)
    text += fmt::format("    {}) words={} ;;\n", Quoted(Joined(command.words)), Quoted(Words(command)));
  // No match: file names, by -o default.
  return text +
         "  esac\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n"
         "}\n"
         "complete -o default -F _moraine moraine\n";
}

// As _describe wants it: name:help, with the colons of the name escaped.
std::string Described(std::string_view name, std::string_view help) {
  return " " + Quoted(fmt::format("{}:{}", name, help));
}

const CommandText* Below(const std::vector<CommandText>& commands, const CommandText& above,
                         const std::string& name) {
  std::vector<std::string> words = above.words;
  words.push_back(name);
  for (const CommandText& command : commands) {
    if (command.words == words) return &command;
  }
  return nullptr;
}

std::string Zsh(const std::vector<CommandText>& commands) {
  std::string text = "#compdef moraine\n# moraine completion zsh\n_moraine() {\n" +
                     WalkOfWords(commands, "\"${(@)words[2,CURRENT-1]}\"") +
                     "  local -a below flags\n  case $which in\n";
  for (const CommandText& command : commands) {
    text += fmt::format("    {})\n      below=(", Quoted(Joined(command.words)));
    for (const std::string& name : command.commands)
      text += Described(name, Below(commands, command, name)->help);
    text += " )\n      flags=(";
    for (const FlagText& flag : command.flags) {
      for (const std::string& name : flag.names) text += Described(name, flag.help);
    }
    text += " ) ;;\n";
  }
  return text +
         "  esac\n"
         "  if [[ $PREFIX == -* ]]; then\n"
         "    _describe -o flag flags\n"
         "  elif (( $#below )); then\n"
         "    _describe command below\n"
         "  else\n"
         "    _files\n"
         "  fi\n"
         "}\n"
         "if [ \"$funcstack[1]\" = _moraine ]; then _moraine \"$@\"; else compdef _moraine moraine; fi\n";
}

// Fish escapes backslashes and quotes inside single quotes by a backslash.
std::string FishQuoted(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + "'";
}

std::string Fish(const std::vector<CommandText>& commands) {
  std::string text = "# moraine completion fish\n";
  for (const CommandText& command : commands) {
    std::string when = command.words.empty() ? "__fish_use_subcommand" : "";
    for (const std::string& word : command.words)
      when += (when.empty() ? "" : "; and ") + fmt::format("__fish_seen_subcommand_from {}", word);
    if (!command.words.empty() && !command.commands.empty())
      when += "; and not __fish_seen_subcommand_from " + Joined(command.commands);
    for (const std::string& name : command.commands)
      text += fmt::format("complete -c moraine -f -n {} -a {} -d {}\n", FishQuoted(when), name,
                          FishQuoted(Below(commands, command, name)->help));
    for (const FlagText& flag : command.flags) {
      text += fmt::format("complete -c moraine -n {}", FishQuoted(when));
      for (const std::string& name : flag.names)
        text += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      text += fmt::format("{} -d {}\n", flag.value.empty() ? "" : " -r", FishQuoted(flag.help));
    }
  }
  return text;
}

}  // namespace

void AddCompletion(CLI::App& app, int*) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command =
      app.add_subcommand("completion", "Print what a shell needs to complete moraine's flags");
  command->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->footer(
      "bash: source <(moraine completion bash)\n"
      "zsh:  source <(moraine completion zsh)       (after compinit)\n"
      "fish: moraine completion fish | source\n\n"
      "Exit codes: 0 ok, 2 usage.");
  command->callback([&app, shell] {
    const auto commands = DescribeCommands(app);
    fmt::print("{}", *shell == "bash" ? Bash(commands) : *shell == "zsh" ? Zsh(commands) : Fish(commands));
  });
}

}  // namespace moraine::tools
