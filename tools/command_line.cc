#include "tools/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "tools/policy_source.h"

namespace moraine::tools {
namespace {

// "INT:INT in [0 - 65535]" is INT.
std::string ValueName(const CLI::Option& option) {
  if (option.get_items_expected_max() == 0) return "";
  const std::string type = option.get_type_name();
  return type.empty() ? "VALUE" : type.substr(0, type.find(':'));
}

// Flags of the policy have theirs in a table of their own.
std::string Variable(const CLI::Option& option, const std::string& name) {
  if (!option.get_envname().empty()) return option.get_envname();
  const auto found =
      std::ranges::find_if(kPolicyFlags, [&](const PolicyFlag& flag) { return name == flag.flag; });
  return found == kPolicyFlags.end() ? "" : found->environment;
}

std::string OneLine(std::string text) {
  std::ranges::replace(text, '\n', ' ');
  return text;
}

CommandText Describe(const CLI::App& app, const std::vector<std::string>& words) {
  CommandText text{
      .words = words, .help = OneLine(app.get_description()), .footer = OneLine(app.get_footer())};
  for (const CLI::Option* option : app.get_options([](const CLI::Option*) { return true; })) {
    if (!option->nonpositional()) {
      text.arguments.push_back({.name = option->get_name(true),
                                .help = OneLine(option->get_description()),
                                .required = option->get_required()});
      continue;
    }
    FlagText flag{.value = ValueName(*option), .help = OneLine(option->get_description())};
    for (const std::string& name : option->get_snames()) flag.names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) flag.names.push_back("--" + name);
    flag.variable = Variable(*option, flag.names.back());
    text.flags.push_back(std::move(flag));
  }
  return text;
}

void Collect(const CLI::App& app, const std::vector<std::string>& words, std::vector<CommandText>* all) {
  const size_t place = all->size();
  all->push_back(Describe(app, words));
  for (const CLI::App* below : app.get_subcommands([](const CLI::App*) { return true; })) {
    (*all)[place].commands.push_back(below->get_name());
    std::vector<std::string> longer = words;
    longer.push_back(below->get_name());
    Collect(*below, longer, all);
  }
}

}  // namespace

std::vector<CommandText> DescribeCommands(const CLI::App& root) {
  std::vector<CommandText> all;
  Collect(root, {}, &all);
  return all;
}

std::string CommandName(const CommandText& command, const char* between) {
  std::string name = "moraine";
  for (const std::string& word : command.words) name += between + word;
  return name;
}

}  // namespace moraine::tools
