#include "tools/service_notify.h"

#include <fmt/core.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "runtime/core/file.h"
#include "runtime/core/handle.h"

namespace moraine::tools {
namespace {

constexpr int kFirstFd = 3;
constexpr int kMostFds = 64;

std::optional<int64_t> Number(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr) return std::nullopt;
  int64_t number = 0;
  const char* end = text + std::strlen(text);
  const auto [next, error] = std::from_chars(text, end, number);
  return error == std::errc() && next == end ? std::optional(number) : std::nullopt;
}

}  // namespace

void NotifyService(const std::string& lines) {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || (path[0] != '/' && path[0] != '@')) return;
  sockaddr_un to = {};
  to.sun_family = AF_UNIX;
  const size_t length = std::strlen(path);
  if (length >= sizeof to.sun_path) return;
  std::memcpy(to.sun_path, path, length);
  // '@' stands for the first byte of an abstract name.
  if (path[0] == '@') to.sun_path[0] = '\0';
  const Handle<FdTraits> fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd) return;
  const timeval patience = {.tv_sec = 1, .tv_usec = 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  // A manager that does not listen is no reason to stop.
  (void)::sendto(fd.get(), lines.data(), lines.size(), MSG_NOSIGNAL, reinterpret_cast<sockaddr*>(&to), size);
}

std::optional<std::chrono::microseconds> WatchdogInterval() {
  const auto microseconds = Number("WATCHDOG_USEC");
  if (!microseconds || *microseconds <= 0) return std::nullopt;
  if (std::getenv("WATCHDOG_PID") != nullptr && Number("WATCHDOG_PID") != ::getpid()) return std::nullopt;
  return std::chrono::microseconds(*microseconds);
}

Result<std::vector<int>> TakeListenFds() {
  std::vector<int> fds;
  const char* count_text = std::getenv("LISTEN_FDS");
  if (count_text == nullptr || Number("LISTEN_PID") != ::getpid()) return fds;
  const auto count = Number("LISTEN_FDS");
  if (!count || *count < 0 || *count > kMostFds)
    return Fail(ErrorKind::kUsage,
                fmt::format("LISTEN_FDS is \"{}\"; expected 0 to {}", count_text, kMostFds));
  for (int i = 0; i < *count; ++i) fds.push_back(kFirstFd + i);
  ::unsetenv("LISTEN_PID");
  ::unsetenv("LISTEN_FDS");
  ::unsetenv("LISTEN_FDNAMES");
  return fds;
}

}  // namespace moraine::tools
