#include "tools/help_format.h"

#include <algorithm>

namespace moraine::tools {

std::string HelpFormat::make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const {
  all_ = mode == CLI::AppFormatMode::All;
  has_more_ = !app->get_options([](const CLI::Option* option) {
                    return option->get_group() == kMoreFlags || !option->get_envname().empty();
                  })
                   .empty();
  std::string text = Formatter::make_help(app, std::move(name), mode);
  // Groups that were left out leave their blank lines.
  for (size_t at; (at = text.find("\n\n\n")) != text.npos;) text.erase(at, 1);
  return text;
}

std::string HelpFormat::make_group(std::string group, bool is_positional,
                                   std::vector<const CLI::Option*> options) const {
  if (!all_ && group == kMoreFlags) return "";
  if (!has_more_) {
    std::erase_if(options, [](const CLI::Option* option) {
      return std::ranges::find(option->get_lnames(), "help-all") != option->get_lnames().end();
    });
  }
  return Formatter::make_group(std::move(group), is_positional, std::move(options));
}

// "TEXT" and what else fits beside the name; ranges and variables only where there is room for them.
std::string HelpFormat::make_option_opts(const CLI::Option* option) const {
  if (all_) return Formatter::make_option_opts(option);
  std::string text = Formatter::make_option_opts(option);
  text.erase(std::min(text.find(" (Env:"), text.size()));
  text.erase(std::min(text.find(" Excludes:"), text.size()));
  const size_t colon = text.find(':');
  if (colon == text.npos) return text;
  const size_t after = text.find_first_of("=]", colon);
  return text.substr(0, colon) +
         (after == text.npos ? "" : text.substr(after + (text[after] == ']' ? 1 : 0)));
}

}  // namespace moraine::tools
