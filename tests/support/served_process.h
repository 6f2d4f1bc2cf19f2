// bin/moraine serve in a process of its own, on sockets of its own.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/support/http_client.h"
#include "tests/support/temp_folder.h"

namespace moraine::test {

struct ServedOptions {
  std::vector<std::string> arguments;
  std::vector<std::string> environment;  // "NAME=value", added
  bool tcp = false;                      // 127.0.0.1 with a free port, instead of a Unix socket
  bool wait = true;                      // until the model is loaded
  unsigned limit_s = 300;                // a hang ends as SIGALRM
  std::function<void()> prepare;         // called in the new process before it becomes moraine; may be empty
};

class ServedProcess {
 public:
  explicit ServedProcess(const std::string& model, ServedOptions options = {});
  ServedProcess(const ServedProcess&) = delete;
  /// Kills it if it still runs.
  ~ServedProcess();

  /// "unix:..." or "127.0.0.1:PORT", as it says on its first line; empty if it ended before.
  const std::string& address() const { return address_; }
  HttpClient Client() const { return HttpClient(address_); }
  void Signal(int signal) const;
  /// Waits for its end: the exit code, or minus the signal's number.
  int Wait();
  /// What it has said on stderr so far.
  std::string said() const { return ReadFile(folder_ / "err"); }
  pid_t pid() const { return pid_; }

 private:
  TempFolder folder_;
  pid_t pid_ = -1;
  std::string address_;
};

}  // namespace moraine::test
