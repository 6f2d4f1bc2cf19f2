#include "tests/support/terminal_process.h"

#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

namespace moraine::test {

TerminalProcess::TerminalProcess(const std::vector<std::string>& arguments,
                                 std::vector<std::string> environment, unsigned limit_s) {
  const std::string binary = MORAINE_BINARY_DIR "/bin/moraine";
  std::vector<char*> argv = {const_cast<char*>(binary.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  winsize size = {.ws_row = 40, .ws_col = 120, .ws_xpixel = 0, .ws_ypixel = 0};
  pid_ = ::forkpty(&fd_, nullptr, nullptr, &size);
  if (pid_ < 0) std::abort();
  if (pid_ == 0) {
    ::setenv("TERM", "xterm", 1);
    ::unsetenv("NO_COLOR");
    for (std::string& variable : environment) ::putenv(variable.data());
    ::alarm(limit_s);  // survives exec
    ::execv(binary.c_str(), argv.data());
    ::_exit(127);
  }
}

TerminalProcess::~TerminalProcess() {
  if (pid_ >= 0) {
    ::kill(pid_, SIGKILL);
    Wait();
  }
  ::close(fd_);
}

void TerminalProcess::Type(const std::string& keys) const {
  if (::write(fd_, keys.data(), keys.size()) != static_cast<ssize_t>(keys.size())) std::abort();
}

bool TerminalProcess::More(int seconds) {
  pollfd ready = {.fd = fd_, .events = POLLIN, .revents = 0};
  if (::poll(&ready, 1, 1000 * seconds) <= 0) return false;
  char bytes[4096];
  const ssize_t got = ::read(fd_, bytes, sizeof bytes);  // EIO once nobody has the terminal any more
  if (got <= 0) return false;
  shown_.append(bytes, static_cast<size_t>(got));
  return true;
}

bool TerminalProcess::WaitFor(const std::string& text, int seconds) {
  size_t at = 0;
  while ((at = shown_.find(text, found_)) == shown_.npos) {
    if (!More(seconds)) return false;
  }
  found_ = at + text.size();
  return true;
}

bool TerminalProcess::WaitForPrompt() {
  if (!WaitFor("> ")) return false;
  for (int i = 0; i < 2000; ++i) {
    termios state = {};
    if (::tcgetattr(fd_, &state) == 0 && (state.c_lflag & ICANON) == 0) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

int TerminalProcess::Wait() {
  while (More(60)) {
  }
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0) {
  }
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace moraine::test
