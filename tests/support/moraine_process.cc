#include "tests/support/moraine_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "tests/support/temp_folder.h"

namespace moraine::test {

ProcessResult RunMoraine(const std::vector<std::string>& arguments, const ProcessOptions& options) {
  const TempFolder folder;
  const std::string out = folder / "out";
  const std::string err = folder / "err";
  const std::string in = folder / "in";
  std::ofstream(in) << options.input;
  const std::string binary = MORAINE_BINARY_DIR "/bin/moraine";
  std::vector<char*> argv = {const_cast<char*>(binary.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const pid_t child = ::fork();
  if (child < 0) std::abort();
  if (child == 0) {
    const int out_fd = ::open(out.c_str(), O_WRONLY | O_CREAT, 0600);
    const int err_fd = ::open(err.c_str(), O_WRONLY | O_CREAT, 0600);
    ::dup2(::open(in.c_str(), O_RDONLY), STDIN_FILENO);
    ::dup2(out_fd, STDOUT_FILENO);
    ::dup2(err_fd, STDERR_FILENO);
    // What runs leave behind for the next one stays here, and none of the user's own counts.
    ::setenv("XDG_STATE_HOME", folder.path().c_str(), 1);
    ::setenv("XDG_CACHE_HOME", folder.path().c_str(), 1);
    if (options.constrain && !options.constrain()) ::_exit(126);
    ::alarm(options.limit_s);  // survives exec
    ::execv(binary.c_str(), argv.data());
    ::_exit(127);
  }
  if (options.interrupt_after_ms > 0) {
    ::usleep(static_cast<useconds_t>(options.interrupt_after_ms) * 1000);
    ::kill(child, SIGINT);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
  }
  ProcessResult result;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  result.out = ReadFile(out);
  result.err = ReadFile(err);
  return result;
}

}  // namespace moraine::test
