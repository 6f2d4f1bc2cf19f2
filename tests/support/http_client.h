// A client that says exactly what it is told to, over a Unix socket or TCP on this machine.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace moraine::test {

struct HttpReply {
  int status = 0;                              // 0: the connection ended before a whole answer
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;                            // chunks joined
};

class HttpClient {
 public:
  /// `address`: "unix:PATH" or "127.0.0.1:PORT". Not connected when the server refuses: connected() says.
  explicit HttpClient(const std::string& address);
  HttpClient(HttpClient&& other) noexcept;
  HttpClient(const HttpClient&) = delete;
  ~HttpClient();

  bool connected() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  /// Bytes as they are. False when the peer has closed.
  bool Raw(std::string_view bytes) const;
  void Close();
  /// Reads one answer, for at most `seconds` between bytes.
  HttpReply Read(int seconds = 60, bool head = false);
  /// What came so far, until `text` is in it or `seconds` pass without a byte; true if it is.
  bool ReadUntil(std::string_view text, int seconds = 60);
  const std::string& received() const { return received_; }
  /// True when the server closes within `seconds`.
  bool ReadsEnd(int seconds = 10);

  /// A request with the headers a client sends, and its answer.
  HttpReply Get(const std::string& path, const std::string& headers = "");
  HttpReply Post(const std::string& path, const std::string& body, const std::string& headers = "");
  /// Without waiting for the answer.
  void SendPost(const std::string& path, const std::string& body, const std::string& headers = "");

 private:
  bool More(int seconds);
  int fd_ = -1;
  std::string received_;  // and not taken by Read
};

}  // namespace moraine::test
