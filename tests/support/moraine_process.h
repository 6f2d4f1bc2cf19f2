// Runs bin/moraine and keeps what it said.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace moraine::test {

struct ProcessResult {
  int exit_code = -1;  // minus the signal's number when one ended it
  std::string out;
  std::string err;
};

struct ProcessOptions {
  unsigned limit_s = 60;       // a hang ends as -SIGALRM
  std::string input;           // standard input
  int interrupt_after_ms = 0;  // SIGINT, as Ctrl-C sends it; 0: none
  std::function<bool()>
      constrain;  // called in the new process before it becomes moraine; false: exit code 126
};

/// Runs the built binary with `arguments` and waits.
ProcessResult RunMoraine(const std::vector<std::string>& arguments, const ProcessOptions& options = {});

}  // namespace moraine::test
