#include "tools/bench/bench_main.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>

namespace moraine::tools {

int BenchMain(CLI::App& app, const std::string& name, int argc, char** argv,
              const std::function<Status()>& run) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const Status status = run();
  if (status.has_value()) return 0;
  fmt::print(stderr, "{}: {}\n", name, status.error().message);
  return ExitCode(status.error().kind);
}

}  // namespace moraine::tools
