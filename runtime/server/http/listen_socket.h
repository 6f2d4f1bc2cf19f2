// ListenSocket: a place where clients connect, a Unix socket or a TCP address.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/core/file.h"
#include "runtime/core/handle.h"
#include "runtime/core/result.h"

namespace moraine {

/// Where to listen: "unix:PATH", a path that starts with '/' or ends in ".sock", "HOST:PORT" or "[V6]:PORT".
struct ListenAddress {
  bool is_unix = false;
  std::string path;  // of a Unix socket
  std::string host;
  uint16_t port = 0;  // 0: one that is free
};

/// kUsage says what was expected.
Result<ListenAddress> ParseListenAddress(const std::string& text);

/// Listening and non-blocking. Move-only; a Unix socket's file goes with it if it is still this one.
class ListenSocket {
 public:
  /// Unix: makes the folder (0700) if there is none, and the socket with mode 0600 from its first moment;
  /// replaces a socket that nobody listens on. kUsage: the folder belongs to someone else or others may write
  /// to it, the path is too long, is no socket, or a server answers there; kIo: the system refuses.
  /// Call it before there are threads: it sets the process's umask for a moment.
  static Result<ListenSocket> Open(const ListenAddress& address);
  /// Takes a descriptor that already listens (socket activation). kUsage if it is no stream socket.
  static Result<ListenSocket> Adopt(int fd);

  ListenSocket(ListenSocket&& other) noexcept;
  ListenSocket& operator=(ListenSocket&& other) = delete;
  ~ListenSocket();

  int fd() const { return fd_.get(); }  // borrowed
  bool is_unix() const { return is_unix_; }
  /// Only this machine can connect.
  bool is_local() const { return is_local_; }
  /// "unix:/run/x.sock", "127.0.0.1:8080".
  const std::string& name() const { return name_; }

 private:
  ListenSocket() = default;
  static Result<ListenSocket> OpenUnix(const std::string& path);
  static Result<ListenSocket> OpenTcp(const ListenAddress& address);
  Status Describe();

  Handle<FdTraits> fd_;
  bool is_unix_ = false;
  bool is_local_ = false;
  std::string name_;
  std::string path_;  // to remove; empty: none
  uint64_t device_ = 0, inode_ = 0;
};

}  // namespace moraine
