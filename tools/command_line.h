// The command line as plain text: what --help, the manual and shell completion all tell of.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace moraine::tools {

struct FlagText {
  std::vector<std::string> names;  // "-h", "--help"
  std::string value;               // "TEXT"; empty: the flag takes none
  std::string help;
  std::string variable;  // of the environment; empty: none
};

struct ArgumentText {
  std::string name;
  std::string help;
  bool required = false;
};

struct CommandText {
  std::vector<std::string> words;  // {"policy", "check"}; none: the program itself
  std::string help;
  std::string footer;
  std::vector<ArgumentText> arguments;
  std::vector<FlagText> flags;
  std::vector<std::string> commands;  // names of those below it
};

/// `root` first, then its commands in their order, each before those below it.
std::vector<CommandText> DescribeCommands(const CLI::App& root);

/// "moraine policy check", with `between` the words.
std::string CommandName(const CommandText& command, const char* between = " ");

}  // namespace moraine::tools
