// bin/moraine on a terminal of its own, as a user has it.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace moraine::test {

class TerminalProcess {
 public:
  /// Ends as SIGALRM after `limit_s`. `environment`: "NAME=value", added.
  explicit TerminalProcess(const std::vector<std::string>& arguments,
                           std::vector<std::string> environment = {}, unsigned limit_s = 60);
  TerminalProcess(const TerminalProcess&) = delete;
  /// Kills it if it still runs.
  ~TerminalProcess();

  /// As typed: "\r" is Enter, "\x03" Ctrl-C.
  void Type(const std::string& keys) const;
  /// Reads until `text` comes after what earlier calls found; false when it ends or is silent for `seconds`.
  bool WaitFor(const std::string& text, int seconds = 20);
  /// The same for "> ", and until the line editor has the keys: what comes sooner is still the terminal's,
  /// which takes Ctrl-C and Ctrl-D itself.
  bool WaitForPrompt();
  /// All it has shown, escapes included.
  const std::string& shown() const { return shown_; }
  /// Waits for its end: the exit code, or minus the signal's number.
  int Wait();

 private:
  bool More(int seconds);
  int fd_ = -1;
  pid_t pid_ = -1;
  std::string shown_;
  size_t found_ = 0;
};

}  // namespace moraine::test
