#include "runtime/server/http/listen_socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <utility>

#include "runtime/core/printable.h"

namespace moraine {
namespace {

constexpr int kBacklog = 1024;

tl::unexpected<Error> SystemFail(const std::string& what) {
  return Fail(ErrorKind::kIo, fmt::format("{}: {}", what, std::strerror(errno)));
}

Status CheckFolder(const std::string& folder) {
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return SystemFail(folder + ": cannot be made");
  struct stat found = {};
  if (::stat(folder.c_str(), &found) != 0) return SystemFail(folder);
  if (!S_ISDIR(found.st_mode)) return Fail(ErrorKind::kUsage, folder + ": not a folder");
  if (found.st_uid != ::geteuid() && found.st_uid != 0) {
    return Fail(ErrorKind::kUsage,
                fmt::format("{}: belongs to user {}, who could replace the socket; choose another folder",
                            folder, found.st_uid));
  }
  if ((found.st_mode & (S_IWGRP | S_IWOTH)) != 0 && (found.st_mode & S_ISVTX) == 0) {
    return Fail(
        ErrorKind::kUsage,
        fmt::format("{}: others may write to it (mode {:o}) and could replace the socket; chmod 700 it",
                    folder, found.st_mode & 07777u));
  }
  return {};
}

// Clears the way for a socket at `path`: whatever is not the leftover of a dead server stays.
Status RemoveStale(const std::string& path, const sockaddr_un& address) {
  struct stat found = {};
  if (::lstat(path.c_str(), &found) != 0) return errno == ENOENT ? Status() : SystemFail(path);
  if (!S_ISSOCK(found.st_mode)) {
    return Fail(ErrorKind::kUsage,
                fmt::format("{}: is there and is no socket; remove it or choose another path", path));
  }
  const Handle<FdTraits> probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe) return SystemFail("socket");
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
      errno != ECONNREFUSED) {
    return Fail(ErrorKind::kUsage,
                fmt::format("{}: a server listens there already; stop it or choose another path", path));
  }
  if (::unlink(path.c_str()) != 0) return SystemFail(path + ": stale, and cannot be removed");
  return {};
}

bool IsLoopback(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    return (ntohl(v4.sin_addr.s_addr) >> 24) == 127;
  }
  if (address.ss_family == AF_INET6) {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr) != 0;
  }
  return false;
}

std::string TcpName(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = "?";
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    ::inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    return fmt::format("{}:{}", text, ntohs(v4.sin_port));
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  ::inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
  return fmt::format("[{}]:{}", text, ntohs(v6.sin6_port));
}

}  // namespace

Result<ListenAddress> ParseListenAddress(const std::string& text) {
  const auto refuse = [&](const char* why) {
    return Fail(ErrorKind::kUsage, fmt::format("listen address \"{}\": {}; expected unix:PATH or HOST:PORT",
                                               Printable(text, 120), why));
  };
  ListenAddress address;
  const bool named = text.rfind("unix:", 0) == 0;
  if (named || text.rfind('/', 0) == 0 || (text.size() > 5 && text.rfind(".sock") == text.size() - 5)) {
    address.is_unix = true;
    address.path = named ? text.substr(5) : text;
    if (address.path.empty()) return refuse("no path");
    return address;
  }
  const size_t colon = text.rfind(':');
  if (colon == text.npos) return refuse("no port");
  address.host = text.substr(0, colon);
  if (address.host.size() > 2 && address.host.front() == '[' && address.host.back() == ']') {
    address.host = address.host.substr(1, address.host.size() - 2);
  } else if (address.host.find(':') != text.npos) {
    return refuse("an IPv6 address stands in brackets");
  }
  if (address.host.empty()) return refuse("no host (127.0.0.1 is this machine alone)");
  const char* end = text.data() + text.size();
  const auto [next, error] = std::from_chars(text.data() + colon + 1, end, address.port);
  if (error != std::errc() || next != end) return refuse("the port is no number from 0 to 65535");
  return address;
}

ListenSocket::ListenSocket(ListenSocket&& other) noexcept
    : fd_(std::move(other.fd_)),
      is_unix_(other.is_unix_),
      is_local_(other.is_local_),
      name_(std::move(other.name_)),
      path_(std::exchange(other.path_, {})),
      device_(other.device_),
      inode_(other.inode_) {}

ListenSocket::~ListenSocket() {
  struct stat found = {};
  if (path_.empty() || ::lstat(path_.c_str(), &found) != 0) return;
  if (found.st_dev == device_ && found.st_ino == inode_) ::unlink(path_.c_str());
}

Result<ListenSocket> ListenSocket::Open(const ListenAddress& address) {
  return address.is_unix ? OpenUnix(address.path) : OpenTcp(address);
}

Result<ListenSocket> ListenSocket::OpenUnix(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return Fail(ErrorKind::kUsage,
                fmt::format("{}: {} bytes, and a socket's path holds {}", Printable(path, 120), path.size(),
                            sizeof address.sun_path - 1));
  }
  path.copy(address.sun_path, path.size());
  const size_t slash = path.rfind('/');
  const std::string folder = slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  MORAINE_RETURN_IF_ERROR(CheckFolder(folder));
  // Of two servers that start at once the second sees the first listening.
  const Handle<FdTraits> lock(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!lock || ::flock(lock.get(), LOCK_EX) != 0) return SystemFail(folder + ": cannot be locked");
  MORAINE_RETURN_IF_ERROR(RemoveStale(path, address));

  ListenSocket made;
  made.fd_ = Handle<FdTraits>(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made.fd_) return SystemFail("socket");
  const mode_t before = ::umask(0177);
  const int bound = ::bind(made.fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int bind_error = errno;
  ::umask(before);
  errno = bind_error;
  if (bound != 0) return SystemFail(path);
  struct stat found = {};
  if (::lstat(path.c_str(), &found) != 0) return SystemFail(path);
  made.path_ = path;
  made.device_ = found.st_dev;
  made.inode_ = found.st_ino;
  if (::listen(made.fd_.get(), kBacklog) != 0) return SystemFail(path);
  MORAINE_RETURN_IF_ERROR(made.Describe());
  return made;
}

Result<ListenSocket> ListenSocket::OpenTcp(const ListenAddress& address) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (error != 0) {
    return Fail(ErrorKind::kUsage,
                fmt::format("{}: {}", Printable(address.host, 120), ::gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  ListenSocket made;
  made.fd_ = Handle<FdTraits>(::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!made.fd_) return SystemFail("socket");
  const int on = 1;
  ::setsockopt(made.fd_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(made.fd_.get(), found->ai_addr, found->ai_addrlen) != 0 ||
      ::listen(made.fd_.get(), kBacklog) != 0) {
    return SystemFail(fmt::format("{}:{}", address.host, address.port));
  }
  MORAINE_RETURN_IF_ERROR(made.Describe());
  return made;
}

Result<ListenSocket> ListenSocket::Adopt(int fd) {
  ListenSocket made;
  made.fd_ = Handle<FdTraits>(fd);
  int listening = 0;
  socklen_t size = sizeof listening;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || listening == 0) {
    return Fail(ErrorKind::kUsage, fmt::format("descriptor {} is no listening socket", fd));
  }
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || ::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
    return SystemFail(fmt::format("descriptor {}", fd));
  }
  MORAINE_RETURN_IF_ERROR(made.Describe());
  return made;
}

Status ListenSocket::Describe() {
  sockaddr_storage address = {};
  socklen_t size = sizeof address;
  if (::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
    return SystemFail("getsockname");
  is_unix_ = address.ss_family == AF_UNIX;
  if (is_unix_) {
    is_local_ = true;
    name_ = fmt::format("unix:{}", reinterpret_cast<const sockaddr_un&>(address).sun_path);
    return {};
  }
  if (address.ss_family != AF_INET && address.ss_family != AF_INET6)
    return Fail(ErrorKind::kUsage, "a listening socket is neither Unix nor TCP");
  is_local_ = IsLoopback(address);
  name_ = TcpName(address);
  return {};
}

}  // namespace moraine
