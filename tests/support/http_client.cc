#include "tests/support/http_client.h"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <utility>

namespace moraine::test {

HttpClient::HttpClient(const std::string& address) {
  if (address.rfind("unix:", 0) == 0) {
    sockaddr_un to = {};
    to.sun_family = AF_UNIX;
    address.copy(to.sun_path, sizeof to.sun_path - 1, 5);
    fd_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) Close();
    return;
  }
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  const size_t colon = address.rfind(':');
  ::inet_pton(AF_INET, address.substr(0, colon).c_str(), &to.sin_addr);
  to.sin_port = htons(static_cast<uint16_t>(std::atoi(address.c_str() + colon + 1)));
  fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof to) != 0) Close();
}

HttpClient::HttpClient(HttpClient&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), received_(std::move(other.received_)) {}

HttpClient::~HttpClient() { Close(); }

void HttpClient::Close() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

bool HttpClient::Raw(std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool HttpClient::More(int seconds) {
  pollfd wait = {fd_, POLLIN, 0};
  if (::poll(&wait, 1, seconds * 1000) != 1) return false;
  char buffer[65536];
  const ssize_t got = ::recv(fd_, buffer, sizeof buffer, 0);
  if (got <= 0) return false;
  received_.append(buffer, static_cast<size_t>(got));
  return true;
}

bool HttpClient::ReadUntil(std::string_view text, int seconds) {
  while (received_.find(text) == received_.npos) {
    if (!More(seconds)) return false;
  }
  return true;
}

bool HttpClient::ReadsEnd(int seconds) {
  while (true) {
    pollfd wait = {fd_, POLLIN, 0};
    if (::poll(&wait, 1, seconds * 1000) != 1) return false;
    if (!More(0)) return true;
  }
}

HttpReply HttpClient::Read(int seconds, bool head) {
  HttpReply reply;
  if (!ReadUntil("\r\n\r\n", seconds)) return {};
  const size_t end = received_.find("\r\n\r\n") + 4;
  const int status = std::atoi(received_.c_str() + received_.find(' ') + 1);
  for (size_t at = received_.find("\r\n") + 2; at + 2 < end;) {
    const size_t line = received_.find("\r\n", at);
    const size_t colon = received_.find(": ", at);
    std::string name = received_.substr(at, colon - at);
    std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
    reply.headers[name] = received_.substr(colon + 2, line - colon - 2);
    at = line + 2;
  }
  received_.erase(0, end);
  if (!head && reply.headers.count("transfer-encoding") != 0) {
    while (true) {
      if (!ReadUntil("\r\n", seconds)) return {};
      const size_t size = std::strtoull(received_.c_str(), nullptr, 16);
      received_.erase(0, received_.find("\r\n") + 2);
      while (received_.size() < size + 2) {
        if (!More(seconds)) return {};
      }
      reply.body += received_.substr(0, size);
      received_.erase(0, size + 2);
      if (size == 0) break;
    }
  } else if (!head && reply.headers.count("content-length") != 0) {
    const size_t size = std::strtoull(reply.headers["content-length"].c_str(), nullptr, 10);
    while (received_.size() < size) {
      if (!More(seconds)) return {};
    }
    reply.body = received_.substr(0, size);
    received_.erase(0, size);
  }
  reply.status = status;
  return reply;
}

HttpReply HttpClient::Get(const std::string& path, const std::string& headers) {
  Raw(fmt::format("GET {} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", path, headers));
  return Read();
}

void HttpClient::SendPost(const std::string& path, const std::string& body, const std::string& headers) {
  Raw(
      fmt::format("POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
                  "{}\r\n{}\r\n{}",
                  path, body.size(), headers, body));
}

HttpReply HttpClient::Post(const std::string& path, const std::string& body, const std::string& headers) {
  SendPost(path, body, headers);
  return Read();
}

}  // namespace moraine::test
