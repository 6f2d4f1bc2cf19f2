#include "tests/support/served_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

namespace moraine::test {
namespace {

constexpr int kTries = 6000;
constexpr std::chrono::milliseconds kPause{10};

bool Ended(pid_t pid) {
  siginfo_t info = {};
  return ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == pid;
}

}  // namespace

ServedProcess::ServedProcess(const std::string& model, ServedOptions options) {
  const std::string binary = MORAINE_BINARY_DIR "/bin/moraine";
  std::vector<std::string> words = {binary, "serve", model, "--listen",
                                    options.tcp ? "127.0.0.1:0" : "unix:" + (folder_ / "s.sock")};
  words.insert(words.end(), options.arguments.begin(), options.arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const std::string err = folder_ / "err";
  pid_ = ::fork();
  if (pid_ < 0) std::abort();
  if (pid_ == 0) {
    const int fd = ::open(err.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(fd, STDOUT_FILENO);
    ::dup2(fd, STDERR_FILENO);
    ::setenv("XDG_STATE_HOME", folder_.path().c_str(), 1);
    for (std::string& variable : options.environment) ::putenv(variable.data());
    if (options.prepare) options.prepare();
    ::alarm(options.limit_s);  // survives exec
    ::execv(binary.c_str(), argv.data());
    ::_exit(127);
  }
  const std::string marker = "listening on ";
  for (int i = 0; i < kTries && address_.empty() && !Ended(pid_); ++i) {
    const std::string text = said();
    const size_t at = text.find(marker);
    const size_t end = text.find('\n', at == text.npos ? 0 : at);
    if (at != text.npos && end != text.npos)
      address_ = text.substr(at + marker.size(), end - at - marker.size());
    std::this_thread::sleep_for(kPause);
  }
  if (!options.wait) return;
  for (int i = 0; i < kTries && !Ended(pid_) && Client().Get("/health").status != 200; ++i)
    std::this_thread::sleep_for(kPause);
}

ServedProcess::~ServedProcess() {
  if (pid_ < 0) return;
  Signal(SIGKILL);
  Wait();
}

void ServedProcess::Signal(int signal) const { ::kill(pid_, signal); }

int ServedProcess::Wait() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0) {
  }
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace moraine::test
