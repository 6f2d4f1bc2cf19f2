// With http_server.cc the only files that see Boost: Asio for the socket, Beast for the request and its
// answer.
#include "runtime/server/http/http_call.h"

#include <fmt/core.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <boost/asio.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <cstdint>
#include <limits>
#include <optional>

#include "runtime/core/printable.h"
#include "runtime/core/version.h"

namespace moraine {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using Protocol = asio::generic::stream_protocol;

constexpr std::chrono::milliseconds kPoll{50};
constexpr std::chrono::seconds kSilence{120};
constexpr size_t kPieceBytes = 16 << 10;
constexpr const char* kPort = "80";

// One call: straight-line code over asynchronous operations, so that `stop` is heard in each of them.
class Caller {
 public:
  Caller(const HttpTarget& target, const std::function<bool()>& stop) : target_(target), stop_(stop) {}

  Status Connect() {
    if (!target_.socket.empty()) {
      // Longer than an address of the system has room for.
      if (target_.socket.size() >= sizeof(sockaddr_un::sun_path))
        return Fail(ErrorKind::kUsage, fmt::format("{}: the path is too long for a socket", Place()));
      return ConnectTo(asio::local::stream_protocol::endpoint(target_.socket));
    }
    asio::ip::tcp::resolver resolver(io_);
    error_code error;
    const auto found = resolver.resolve(target_.host, target_.port, error);
    if (error) return Failed("its name is not known", error);
    Status status;
    for (const auto& entry : found) {
      status = ConnectTo(entry.endpoint());
      if (status.has_value() || status.error().kind == ErrorKind::kInterrupted) break;
    }
    return status;
  }

  Status Send(const HttpCall& call) {
    const auto method = call.body.empty() ? http::verb::get : http::verb::post;
    http::request<http::string_body> request(method, call.path, 11, call.body);
    request.set(http::field::host, target_.socket.empty() ? target_.host : "localhost");
    request.set(http::field::user_agent, fmt::format("moraine/{}", Version()));
    if (!call.body.empty()) request.set(http::field::content_type, "application/json");
    if (!call.key.empty()) request.set(http::field::authorization, "Bearer " + call.key);
    request.prepare_payload();
    return Await("the request could not be sent",
                 [&](auto done) { http::async_write(socket_, request, std::move(done)); });
  }

  Result<HttpAnswer> Read(const std::function<void(std::string_view)>& on_body) {
    http::response_parser<http::buffer_body> parser;
    parser.body_limit(std::numeric_limits<uint64_t>::max());
    MORAINE_RETURN_IF_ERROR(Await("no answer came", [&](auto done) {
      http::async_read_header(socket_, buffer_, parser, std::move(done));
    }));
    HttpAnswer answer{.status = static_cast<int>(parser.get().result_int()), .body = ""};
    std::array<char, kPieceBytes> piece;
    while (!parser.is_done()) {
      auto& body = parser.get().body();
      body.data = piece.data();
      body.size = piece.size();
      MORAINE_RETURN_IF_ERROR(Await("the answer broke off", [&](auto done) {
        http::async_read_some(socket_, buffer_, parser, std::move(done));
      }));
      const std::string_view text(piece.data(), piece.size() - body.size);
      if (answer.status == 200 && on_body) {
        if (!text.empty()) on_body(text);
      } else {
        answer.body += text;
      }
    }
    return answer;
  }

 private:
  Status ConnectTo(const Protocol::endpoint& endpoint) {
    error_code ignored;
    socket_.close(ignored);
    return Await("nobody listens there",
                 [&](auto done) { socket_.async_connect(endpoint, std::move(done)); });
  }

  // Starts an operation and waits for its end, for `stop` or for the longest silence.
  template <typename Start>
  Status Await(const char* what, Start&& start) {
    std::optional<error_code> ended;
    start([&ended](error_code error, auto&&...) { ended = error; });
    const Clock::time_point last = Clock::now() + kSilence;
    bool stopped = false;
    while (!ended && !stopped && Clock::now() < last) {
      io_.restart();
      io_.run_one_for(kPoll);
      stopped = !ended && stop_ && stop_();
    }
    if (!ended) {
      error_code ignored;
      socket_.close(ignored);
      io_.restart();
      io_.run();  // the operation's handler names locals of this call
      if (stopped) return Fail(ErrorKind::kInterrupted, "stopped");
      return Fail(ErrorKind::kIo, fmt::format("{}: {}: nothing for {} s", Place(), what, kSilence.count()));
    }
    // A body buffer that is full is no failure: the next piece goes into the next one.
    if (*ended && *ended != http::error::need_buffer) return Failed(what, *ended);
    return {};
  }

  tl::unexpected<Error> Failed(const char* what, error_code error) const {
    return Fail(ErrorKind::kIo, fmt::format("{}: {} ({})", Place(), what, error.message()));
  }
  std::string Place() const { return Printable(target_.Name()); }

  const HttpTarget& target_;
  const std::function<bool()>& stop_;
  asio::io_context io_{1};
  asio::basic_stream_socket<Protocol> socket_{io_};
  boost::beast::flat_buffer buffer_;
};

}  // namespace

std::string HttpTarget::Name() const {
  if (!socket.empty()) return "unix:" + socket;
  const bool v6 = host.find(':') != std::string::npos;
  return v6 ? fmt::format("http://[{}]:{}", host, port) : fmt::format("http://{}:{}", host, port);
}

Result<HttpTarget> ParseHttpUrl(const std::string& url) {
  const auto refuse = [&](const char* why) {
    return Fail(ErrorKind::kUsage,
                fmt::format("{}: {}; expected http://HOST:PORT or http://HOST:PORT/v1", Printable(url), why));
  };
  constexpr std::string_view kScheme = "http://";
  if (url.starts_with("https://")) return refuse("there is no TLS here");
  if (!url.starts_with(kScheme)) return refuse("no http:// before it");
  std::string_view rest = std::string_view(url).substr(kScheme.size());
  const std::string_view path = rest.substr(std::min(rest.find('/'), rest.size()));
  if (!path.empty() && path != "/" && path != "/v1" && path != "/v1/")
    return refuse("a path behind the address");
  rest.remove_suffix(path.size());
  if (rest.find('@') != rest.npos) return refuse("keys go into --api-key-file");
  HttpTarget target{.socket = "", .host = "", .port = kPort};
  const size_t bracket = rest.find(']');
  const size_t colon = rest.find(':', bracket == rest.npos ? 0 : bracket);
  std::string_view host = rest.substr(0, std::min(colon, rest.size()));
  if (colon != rest.npos) target.port = rest.substr(colon + 1);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  target.host = host;
  const bool digits = target.port.find_first_not_of("0123456789") == std::string::npos;
  if (target.host.empty() || target.port.empty() || target.port.size() > 5 || !digits)
    return refuse("no host, or no port behind the colon");
  return target;
}

Result<HttpAnswer> CallHttp(const HttpTarget& target, const HttpCall& call,
                            const std::function<void(std::string_view)>& on_body,
                            const std::function<bool()>& stop) {
  Caller caller(target, stop);
  MORAINE_RETURN_IF_ERROR(caller.Connect());
  MORAINE_RETURN_IF_ERROR(caller.Send(call));
  return caller.Read(on_body);
}

}  // namespace moraine
