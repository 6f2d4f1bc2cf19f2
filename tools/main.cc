// bin/moraine: picks the subcommand.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "runtime/core/version.h"
#include "tools/commands.h"
#include "tools/help_format.h"

namespace moraine::tools {

int Report(const Error& error) {
  fmt::print(stderr, "moraine: {}\n", error.message);
  return ExitCode(error.kind);
}

}  // namespace moraine::tools

int main(int argc, char** argv) {
  CLI::App app("Runs DeepSeek-R1-class mixture-of-experts models on one workstation.", "moraine");
  app.set_version_flag("--version", moraine::Version());
  app.require_subcommand(1);
  app.formatter(std::make_shared<moraine::tools::HelpFormat>());
  app.set_help_all_flag("--help-all", "Print every flag, and the variable that stands for it");
  app.footer(
      "Exit codes: 0 ok, 1 does not fit, 2 usage, 3 model files, 4 hardware unreadable,\n"
      "5 I/O or internal, 70 device lost, 75 busy, 130 interrupted.");
  int exit_code = 0;
  moraine::tools::AddFitCheck(app, &exit_code);
  moraine::tools::AddRun(app, &exit_code);
  moraine::tools::AddServe(app, &exit_code);
  moraine::tools::AddChat(app, &exit_code);
  moraine::tools::AddInspect(app, &exit_code);
  moraine::tools::AddLogits(app, &exit_code);
  moraine::tools::AddPack(app, &exit_code);
  moraine::tools::AddPolicy(app, &exit_code);
  moraine::tools::AddReplay(app, &exit_code);
  moraine::tools::AddSynth(app, &exit_code);
  moraine::tools::AddTokenize(app, &exit_code);
  moraine::tools::AddBench(app, &exit_code);
  moraine::tools::AddEval(app, &exit_code);
  moraine::tools::AddRehearse(app, &exit_code);
  moraine::tools::AddTune(app, &exit_code);
  moraine::tools::AddCompletion(app, &exit_code);
  moraine::tools::AddManual(app, &exit_code);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return exit_code;
}
