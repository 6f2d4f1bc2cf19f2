// --help on one screen: flags few ask for stand under --help-all only, and with them the variables of each
// flag.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace moraine::tools {

/// The group of flags that --help leaves out: `->group(kMoreFlags)`.
inline constexpr const char* kMoreFlags = "More";

class HelpFormat : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override;
  std::string make_group(std::string group, bool is_positional,
                         std::vector<const CLI::Option*> options) const override;
  std::string make_option_opts(const CLI::Option* option) const override;

 private:
  // What CLI11 does not hand on to the two below. One thread asks for help.
  mutable bool all_ = false;
  mutable bool has_more_ = false;
};

}  // namespace moraine::tools
