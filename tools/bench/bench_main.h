// What every bench_* program does around its measuring: flags, one line of error, exit codes.
#pragma once

#include <functional>
#include <string>

#include "runtime/core/result.h"

namespace CLI {
class App;
}

namespace moraine::tools {

/// Parses `argv` with `app` and calls `run`. Returns the exit code: 0 ok or --help, 2 usage, else ExitCode of
/// the error, which goes to stderr behind `name`.
int BenchMain(CLI::App& app, const std::string& name, int argc, char** argv,
              const std::function<Status()>& run);

}  // namespace moraine::tools
