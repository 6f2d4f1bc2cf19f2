#include "tests/support/in_child.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdio>

namespace moraine::test {

std::string InChild(const std::function<std::string()>& body) {
  std::array<int, 2> ends{};
  if (::pipe(ends.data()) != 0) return "no pipe";
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child < 0) return "no child";
  if (child == 0) {
    ::alarm(60);
    const std::string findings = body();
    const ssize_t written = ::write(ends[1], findings.data(), findings.size());
    ::_exit(written == static_cast<ssize_t>(findings.size()) ? 0 : 1);
  }
  ::close(ends[1]);
  std::string findings;
  std::array<char, 4096> part{};
  for (ssize_t got = 0; (got = ::read(ends[0], part.data(), part.size())) > 0;)
    findings.append(part.data(), static_cast<size_t>(got));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFSIGNALED(status)) findings += " (ended by signal " + std::to_string(WTERMSIG(status)) + ")";
  if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
    findings += " (ended with " + std::to_string(WEXITSTATUS(status)) + ")";
  return findings;
}

bool ForbidCall(int number, int error, int argument, unsigned flags) {
  const auto at =
      static_cast<unsigned>(offsetof(seccomp_data, args) + static_cast<size_t>(argument) * sizeof(uint64_t));
  const auto call = static_cast<unsigned>(number);
  const auto refuse = SECCOMP_RET_ERRNO | static_cast<unsigned>(error);
  std::array<sock_filter, 6> filter = {{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, flags, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, refuse),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  if (flags == 0) filter[3] = BPF_STMT(BPF_MISC | BPF_TAX, 0);  // every such call
  const sock_fprog program{.len = static_cast<unsigned short>(filter.size()), .filter = filter.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

bool BecomeNobody() { return ::geteuid() != 0 || (::setgid(65534) == 0 && ::setuid(65534) == 0); }

bool Limit(int resource, unsigned long long value) {
  const rlimit limit{.rlim_cur = value, .rlim_max = value};
  return ::setrlimit(static_cast<__rlimit_resource>(resource), &limit) == 0;
}

}  // namespace moraine::test
