// HttpServer: HTTP/1.1 on Unix sockets and TCP. One thread of its own does all reading and writing.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/server/http/access.h"
#include "runtime/server/http/listen_socket.h"

namespace moraine {

struct HttpLimits {
  std::size_t header_bytes = 32 << 10;  // of a request, the first line included
  std::size_t target_bytes = 8 << 10;   // of its path and query
  std::size_t body_bytes = 16 << 20;
  std::size_t all_body_bytes = 256 << 20;  // of all requests under way together
  std::size_t unsent_bytes = 4 << 20;      // of a stream nobody reads; more, and the connection is cut
  int connections = 4096;
  std::chrono::milliseconds header_time{10'000};  // from a request's first byte to the end of its header
  std::chrono::milliseconds body_time{60'000};    // from there to the end of its body
  std::chrono::milliseconds idle_time{120'000};   // between requests
  std::chrono::milliseconds stall_time{60'000};   // a write that moves nothing
  std::chrono::milliseconds ping_time{15'000};    // between comment lines of a stream that has nothing to say
};

struct HttpRequest {
  std::string method;  // HEAD comes as GET; its answer's body is not sent
  std::string path;    // as sent, without the query
  std::string content_type;
  std::string body;
  std::string id;             // "req-" and 16 hexadecimal digits; X-Request-Id of the answer
  std::string client;         // "uid:1000" or the peer's address
  bool local_socket = false;  // it came over a Unix socket
  bool keyed = false;         // the right key came with it, or none is asked for
};

struct HttpResponse {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;  // more of them; no CR or LF
};

/// The answer to one request: Send once, or Begin, any number of Write, End. Any thread, also after the
/// server is gone; never blocks. What is dropped unanswered gets a 500.
class HttpResponder {
 public:
  virtual ~HttpResponder() = default;
  virtual void Send(HttpResponse response) = 0;
  /// The head of an event stream; comment lines keep it alive from now on.
  virtual void Begin() = 0;
  /// False: nobody is there any more.
  virtual bool Write(std::string text) = 0;
  virtual void End() = 0;
  /// The client went away, or was cut, before the end. A client that shuts down its sending side counts as
  /// gone.
  virtual bool gone() const = 0;
  /// Called once when that happens, on the server's thread or, if it has happened, here. Must not block.
  virtual void OnGone(std::function<void()> call) = 0;
};

/// Called on the server's thread for every request that passed the checks; must not block.
using HttpHandler = std::function<void(HttpRequest, std::shared_ptr<HttpResponder>)>;

/// Makes the body of an answer that the server gives by itself (400, 401, 403, 408, 413, 414, 415, 431, 500,
/// 503).
using HttpErrorBody =
    std::function<std::string(int status, const std::string& code, const std::string& message)>;

/// Sums since the start, but for `open`.
struct HttpCounters {
  std::atomic<int64_t> open{0};
  std::atomic<int64_t> connections{0};
  std::atomic<int64_t> requests{0};
  std::atomic<int64_t> refused{0};  // by the server itself
  std::atomic<int64_t> cut{0};      // too slow, or read nothing
  std::atomic<int64_t> gone{0};     // clients that left before their answer's end
};

struct HttpServerOptions {
  HttpLimits limits;
  AccessRules access;
  HttpErrorBody error_body;  // required
};

struct HttpCore;

class HttpServer {
 public:
  /// Takes the sockets and starts. On Unix sockets only processes of the same user and of root are heard.
  /// kUsage: a socket that others than this machine reach, and no key; kIo.
  static Result<std::unique_ptr<HttpServer>> Start(std::vector<ListenSocket> sockets,
                                                   HttpServerOptions options, HttpHandler handler);
  /// Stop() without grace.
  ~HttpServer();

  /// Accepts no more, ends what is idle, gives answers under way `grace` to be read, joins. Idempotent.
  void Stop(std::chrono::milliseconds grace);

  const HttpCounters& counters() const;

 private:
  explicit HttpServer(std::shared_ptr<HttpCore> core);
  std::shared_ptr<HttpCore> core_;
};

}  // namespace moraine
