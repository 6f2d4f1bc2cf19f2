// With http_call.cc the only files that see Boost: Asio for the sockets, Beast to parse requests.
#include "runtime/server/http/http_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/asio.hpp>
#include <boost/beast/http.hpp>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <random>
#include <string_view>
#include <thread>
#include <unordered_set>

#include "runtime/core/check.h"

namespace moraine {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using Socket = asio::generic::stream_protocol::socket;
using Acceptor = asio::basic_socket_acceptor<asio::generic::stream_protocol>;

namespace {

constexpr size_t kReadBytes = 16 << 10;
constexpr size_t kAheadBytes = 64 << 10;   // of requests sent before the one at work is answered
constexpr milliseconds kLingerTime{2000};  // to let a refused client read why
constexpr milliseconds kAcceptPause{100};  // after accept found no descriptor free

class Connection;

std::string_view View(boost::beast::string_view text) { return {text.data(), text.size()}; }

std::string_view Reason(int status) {
  return View(http::obsolete_reason(http::int_to_status(static_cast<unsigned>(status))));
}

// Who is at the other end of a Unix socket.
std::optional<ucred> PeerOf(int fd) {
  ucred peer = {};
  socklen_t size = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return std::nullopt;
  return peer;
}

std::string AddressOf(int fd) {
  sockaddr_storage address = {};
  socklen_t size = sizeof address;
  char text[INET6_ADDRSTRLEN] = "";
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "";
  if (address.ss_family == AF_INET) {
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(address).sin_addr, text, sizeof text);
  } else if (address.ss_family == AF_INET6) {
    ::inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr, text, sizeof text);
  }
  return text;
}

}  // namespace

// All a server has. Exchanges share it, so that one answered late finds its queue still there.
struct HttpCore {
  HttpCore(HttpServerOptions o, HttpHandler h) : options(std::move(o)), handler(std::move(h)) {}

  const HttpServerOptions options;
  const HttpHandler handler;
  HttpCounters counters;
  asio::io_context io{1};
  std::vector<ListenSocket> sockets;
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work{io.get_executor()};
  std::thread thread;
  // Of the server's thread from here on.
  std::vector<std::unique_ptr<Acceptor>> acceptors;
  std::unordered_set<Connection*> open;
  bool stopping = false;
  size_t body_bytes = 0;  // of requests that are being read or answered
  std::mt19937_64 random{std::random_device()()};
  // Of any thread.
  std::mutex mutex;
  std::condition_variable emptied;
  bool empty = true;
};

namespace {

// One answer: any thread fills it, the server's thread empties it into the socket.
class Exchange : public HttpResponder, public std::enable_shared_from_this<Exchange> {
 public:
  struct Head {
    bool keep_alive = true;
    bool chunked = true;  // HTTP/1.1
    bool head_only = false;
    std::string id;
    std::string allow_origin;  // empty: none
  };

  Exchange(std::shared_ptr<HttpCore> core, std::weak_ptr<Connection> connection, Head head)
      : core_(std::move(core)), connection_(std::move(connection)), head_(std::move(head)) {}

  void Send(HttpResponse response) override {
    const std::lock_guard lock(mutex_);
    if (begun_) return;
    begun_ = true;
    ended_ = true;
    std::string extra;
    for (const auto& [name, value] : response.headers) extra += fmt::format("{}: {}\r\n", name, value);
    if (response.status != 204) {
      extra += fmt::format("Content-Type: {}\r\nContent-Length: {}\r\n", response.content_type,
                           response.body.size());
    }
    Put(StatusLine(response.status, extra));
    if (!head_.head_only && response.status != 204) Put(response.body);
    Schedule();
  }

  void Begin() override {
    const std::lock_guard lock(mutex_);
    if (begun_) return;
    begun_ = true;
    streams_ = true;
    if (!head_.chunked) head_.keep_alive = false;
    std::string extra =
        "Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\nX-Accel-Buffering: "
        "no\r\n";
    if (head_.chunked) extra += "Transfer-Encoding: chunked\r\n";
    Put(StatusLine(200, extra));
    Schedule();
  }

  bool Write(std::string text) override {
    const std::lock_guard lock(mutex_);
    if (gone_ || ended_ || !begun_ || overrun_) return false;
    PutChunk(text);
    if (out_.size() > core_->options.limits.unsent_bytes) {
      overrun_ = true;
      scheduled_ = false;  // what was scheduled waits for a write that may never end
    }
    Schedule();
    return !overrun_;
  }

  void End() override {
    const std::lock_guard lock(mutex_);
    if (ended_ || !streams_) return;
    ended_ = true;
    if (head_.chunked && !head_.head_only) Put("0\r\n\r\n");
    Schedule();
  }

  bool gone() const override {
    const std::lock_guard lock(mutex_);
    return gone_;
  }

  void OnGone(std::function<void()> call) override {
    {
      const std::lock_guard lock(mutex_);
      if (!gone_) {
        on_gone_ = std::move(call);
        return;
      }
    }
    call();
  }

  // The server's thread only, from here on.

  struct Outgoing {
    std::string bytes;
    bool ended, streams, keep_alive;
  };
  bool overrun() const {
    const std::lock_guard lock(mutex_);
    return overrun_;
  }
  Outgoing Take() {
    const std::lock_guard lock(mutex_);
    scheduled_ = false;
    return {std::exchange(out_, {}), ended_, streams_, head_.keep_alive};
  }
  void Ping() {
    const std::lock_guard lock(mutex_);
    if (gone_ || ended_ || !streams_ || !out_.empty()) return;
    PutChunk(": ping\n\n");
    Schedule();
  }
  void SetClose() {
    const std::lock_guard lock(mutex_);
    if (!begun_) head_.keep_alive = false;
    close_ = true;
  }
  bool close() const { return close_; }
  void SetGone() {
    std::function<void()> call;
    {
      const std::lock_guard lock(mutex_);
      if (gone_) return;
      gone_ = true;
      out_.clear();
      call = std::exchange(on_gone_, {});
    }
    if (call) call();
  }

 private:
  std::string StatusLine(int status, const std::string& extra) const {
    std::string text = fmt::format("HTTP/1.1 {} {}\r\nServer: moraine\r\nX-Request-Id: {}\r\n{}", status,
                                   Reason(status), head_.id, extra);
    if (!head_.allow_origin.empty()) {
      text += fmt::format("Access-Control-Allow-Origin: {}\r\nVary: Origin\r\n", head_.allow_origin);
    }
    text += head_.keep_alive ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
    return text;
  }
  void Put(std::string_view bytes) {
    if (!gone_) out_ += bytes;
  }
  void PutChunk(std::string_view text) {
    if (head_.head_only || text.empty()) return;
    if (head_.chunked) {
      Put(fmt::format("{:x}\r\n", text.size()));
      Put(text);
      Put("\r\n");
    } else {
      Put(text);
    }
  }
  void Schedule();

  const std::shared_ptr<HttpCore> core_;
  const std::weak_ptr<Connection> connection_;
  Head head_;
  bool close_ = false;
  mutable std::mutex mutex_;
  std::string out_;
  bool scheduled_ = false, begun_ = false, streams_ = false, ended_ = false, gone_ = false, overrun_ = false;
  std::function<void()> on_gone_;
};

// What a handler holds: when the last copy goes unanswered, the client hears so.
class Responder : public HttpResponder {
 public:
  Responder(std::shared_ptr<Exchange> exchange, std::shared_ptr<HttpCore> core)
      : exchange_(std::move(exchange)), core_(std::move(core)) {}
  ~Responder() override {
    // Both do nothing once an answer was given.
    exchange_->Send(
        {.status = 500, .body = core_->options.error_body(500, "unanswered", "the request was dropped")});
    exchange_->End();
  }
  void Send(HttpResponse response) override { exchange_->Send(std::move(response)); }
  void Begin() override { exchange_->Begin(); }
  bool Write(std::string text) override { return exchange_->Write(std::move(text)); }
  void End() override { exchange_->End(); }
  bool gone() const override { return exchange_->gone(); }
  void OnGone(std::function<void()> call) override { exchange_->OnGone(std::move(call)); }

 private:
  const std::shared_ptr<Exchange> exchange_;
  const std::shared_ptr<HttpCore> core_;
};

// One client. The server's thread only.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<HttpCore> core, Socket socket, std::string client, const ListenSocket& listener)
      : core_(std::move(core)),
        socket_(std::move(socket)),
        timer_(core_->io),
        client_(std::move(client)),
        local_socket_(listener.is_unix()),
        check_host_(!listener.is_unix() && listener.is_local()) {
    core_->open.insert(this);
    core_->counters.open = static_cast<int64_t>(core_->open.size());
    const std::lock_guard lock(core_->mutex);
    core_->empty = false;
  }
  ~Connection() {
    Uncharge();
    core_->open.erase(this);
    core_->counters.open = static_cast<int64_t>(core_->open.size());
    if (!core_->open.empty()) return;
    const std::lock_guard lock(core_->mutex);
    core_->empty = true;
    core_->emptied.notify_all();
  }

  void Start() {
    NewParser();
    Enter(Phase::kIdle);
    Read();
  }

  // At once, whatever is under way.
  void Close() {
    if (phase_ == Phase::kClosed) return;
    const bool answering = phase_ == Phase::kAnswer;
    Enter(Phase::kClosed);
    error_code ignored;
    socket_.close(ignored);
    if (!answering) return;
    ++core_->counters.gone;
    exchange_->SetGone();
  }

  // Ends now what has no answer under way, the rest with its answer.
  void Stop() {
    if (phase_ == Phase::kAnswer) {
      exchange_->SetClose();
    } else {
      Close();
    }
  }

  void Flush() {
    if (phase_ != Phase::kAnswer) return;
    if (exchange_->overrun()) return Cut();
    if (writing_) return;
    Exchange::Outgoing next = exchange_->Take();
    if (next.bytes.empty()) {
      if (next.ended) Answered(next.keep_alive && !exchange_->close());
      return;
    }
    streams_ = next.streams;
    Write(std::move(next.bytes));
  }

 private:
  enum class Phase { kIdle, kHeader, kBody, kAnswer, kLinger, kClosed };

  // Bodies count from their first byte until they are answered.
  bool Charge(size_t bytes) {
    charged_ += bytes;
    core_->body_bytes += bytes;
    return core_->body_bytes <= core_->options.limits.all_body_bytes;
  }
  void Uncharge() { core_->body_bytes -= std::exchange(charged_, 0); }

  void NewParser() {
    Uncharge();
    parser_.emplace();
    parser_->eager(true);
    parser_->header_limit(static_cast<std::uint32_t>(core_->options.limits.header_bytes));
    parser_->body_limit(core_->options.limits.body_bytes);
    checked_ = false;
  }

  void Enter(Phase phase) {
    phase_ = phase;
    const HttpLimits& limits = core_->options.limits;
    switch (phase) {
      case Phase::kIdle:
        return Arm(limits.idle_time);
      case Phase::kHeader:
        return Arm(limits.header_time);
      case Phase::kBody:
        return Arm(limits.body_time);
      case Phase::kAnswer:
        last_write_ = Clock::now();
        return Arm(limits.ping_time);
      case Phase::kLinger:
        return Arm(kLingerTime);
      case Phase::kClosed:
        timer_.cancel();
    }
  }

  void Arm(milliseconds time) {
    timer_.expires_after(time);
    timer_.async_wait([self = shared_from_this()](error_code error) {
      if (!error && self->timer_.expiry() <= Clock::now()) self->OnTime();
    });
  }

  void OnTime() {
    switch (phase_) {
      case Phase::kIdle:
      case Phase::kLinger:
        return Close();
      case Phase::kHeader:
      case Phase::kBody:
        ++core_->counters.cut;
        return Refuse(408, "request_timeout",
                      phase_ == Phase::kHeader ? "the request's header did not arrive in time"
                                               : "the request's body did not arrive in time");
      case Phase::kAnswer: {
        const HttpLimits& limits = core_->options.limits;
        const auto silent = std::chrono::duration_cast<milliseconds>(Clock::now() - last_write_);
        if (writing_ && silent >= limits.stall_time) return Cut();
        if (silent < limits.ping_time) return Arm(limits.ping_time - silent);
        if (!writing_ && streams_) exchange_->Ping();
        return Arm(limits.ping_time);
      }
      case Phase::kClosed:
        return;
    }
  }

  void Read() {
    if (reading_ || phase_ == Phase::kClosed) return;
    reading_ = true;
    socket_.async_read_some(asio::buffer(chunk_),
                            [self = shared_from_this()](error_code error, size_t bytes) {
                              self->reading_ = false;
                              self->OnRead(error, bytes);
                            });
  }

  void OnRead(error_code error, size_t bytes) {
    if (phase_ == Phase::kClosed) return;
    if (error) return Close();
    if (phase_ == Phase::kLinger) return Read();
    if (phase_ == Phase::kBody && !Charge(bytes))
      return Refuse(503, "too_much_at_once", "too many large requests at once; try again");
    input_.append(chunk_.data(), bytes);
    Advance();
  }

  // Parses what is there; reads on while there is room.
  void Advance() {
    if (phase_ == Phase::kAnswer) {
      // Reading goes on to hear of a client that leaves.
      if (input_.size() < kAheadBytes) Read();
      return;
    }
    if (phase_ == Phase::kIdle && !input_.empty()) Enter(Phase::kHeader);
    error_code error;
    while (!input_.empty() && !parser_->is_done() && !error) {
      const size_t used = parser_->put(asio::buffer(input_), error);
      input_.erase(0, used);
      if (parser_->is_header_done() && !checked_) {
        checked_ = true;
        if (!CheckHeader()) return;
        Enter(Phase::kBody);
      }
      if (used == 0 && !error) break;
    }
    if (error && error != http::error::need_more) return RefuseParse(error);
    if (parser_->is_done()) return Dispatch();
    if (!checked_ && input_.size() > core_->options.limits.header_bytes)
      return Refuse(431, "header_too_large", TooLong("header", core_->options.limits.header_bytes));
    Read();
  }

  static std::string TooLong(const char* what, size_t limit) {
    return fmt::format("the request's {} is over the limit of {} bytes", what, limit);
  }

  std::string_view Field(http::field name) const {
    const auto& fields = parser_->get();
    const auto found = fields.find(name);
    return found == fields.end() ? std::string_view() : View(found->value());
  }

  // What can be refused before the body has come. False: it was.
  bool CheckHeader() {
    const auto& message = parser_->get();
    const HttpLimits& limits = core_->options.limits;
    if (message.target().size() > limits.target_bytes) {
      Refuse(414, "uri_too_long", TooLong("path", limits.target_bytes));
      return false;
    }
    const std::string_view transfer = Field(http::field::transfer_encoding);
    if (!transfer.empty() && !boost::beast::iequals({transfer.data(), transfer.size()}, "chunked")) {
      Refuse(400, "bad_request", "the only Transfer-Encoding understood is chunked");
      return false;
    }
    const std::string_view encoding = Field(http::field::content_encoding);
    if (!encoding.empty() && !boost::beast::iequals({encoding.data(), encoding.size()}, "identity")) {
      Refuse(415, "unsupported_encoding", "compressed request bodies are not accepted");
      return false;
    }
    if (const auto refusal = CheckAccess(core_->options.access, Facts())) {
      Refuse(refusal->status, refusal->code, refusal->message);
      return false;
    }
    if (!parser_->is_done() && boost::beast::iequals(message[http::field::expect], "100-continue") &&
        message.version() >= 11) {
      Write("HTTP/1.1 100 Continue\r\n\r\n");
    }
    return true;
  }

  AccessFacts Facts() const {
    const auto& fields = parser_->get();
    const auto optional = [&](http::field name) {
      const auto found = fields.find(name);
      return found == fields.end() ? std::nullopt : std::optional(View(found->value()));
    };
    return {.check_host = check_host_,
            .method = View(fields.method_string()),
            .path = Path(),
            .host = optional(http::field::host),
            .origin = optional(http::field::origin),
            .authorization = Field(http::field::authorization),
            .api_key = View(fields["X-Api-Key"])};
  }

  std::string_view Path() const {
    const std::string_view target = View(parser_->get().target());
    return target.substr(0, target.find('?'));
  }

  void Dispatch() {
    auto message = parser_->release();
    ++core_->counters.requests;
    HttpRequest request;
    request.method = View(message.method_string());
    const bool head_only = request.method == "HEAD";
    if (head_only) request.method = "GET";
    const std::string_view target = View(message.target());
    request.path = target.substr(0, target.find('?'));
    request.content_type = View(message[http::field::content_type]);
    request.body = std::move(message.body());
    request.id = fmt::format("req-{:016x}", core_->random());
    request.client = client_;
    request.local_socket = local_socket_;
    const std::string& key = core_->options.access.key;
    request.keyed = key.empty() || !CheckAccess({.key = key}, KeyFacts(message));
    exchange_ = std::make_shared<Exchange>(
        core_, weak_from_this(),
        Exchange::Head{.keep_alive = message.keep_alive() && !core_->stopping,
                       .chunked = message.version() >= 11,
                       .head_only = head_only,
                       .id = request.id,
                       .allow_origin = std::string(View(message[http::field::origin]))});
    streams_ = false;
    Enter(Phase::kAnswer);
    core_->handler(std::move(request), std::make_shared<Responder>(exchange_, core_));
    if (phase_ == Phase::kAnswer) Advance();
  }

  template <typename Message>
  static AccessFacts KeyFacts(const Message& message) {
    return {.method = "GET",
            .path = "",
            .host = std::nullopt,
            .origin = std::nullopt,
            .authorization = View(message[http::field::authorization]),
            .api_key = View(message["X-Api-Key"])};
  }

  void RefuseParse(error_code error) {
    if (error == http::error::body_limit)
      return Refuse(413, "body_too_large", TooLong("body", core_->options.limits.body_bytes));
    if (error == http::error::header_limit)
      return Refuse(431, "header_too_large", TooLong("header", core_->options.limits.header_bytes));
    Refuse(400, "bad_request", fmt::format("not HTTP/1.1: {}", error.message()));
  }

  // Answers by itself and ends the connection: what follows of the request cannot be trusted or is unwanted.
  void Refuse(int status, const std::string& code, const std::string& message) {
    ++core_->counters.refused;
    Uncharge();
    parser_.reset();
    input_.clear();
    exchange_ = std::make_shared<Exchange>(
        core_, weak_from_this(),
        Exchange::Head{
            .keep_alive = false, .id = fmt::format("req-{:016x}", core_->random()), .allow_origin = ""});
    HttpResponse response{.status = status, .body = core_->options.error_body(status, code, message)};
    if (status == 503) response.headers.emplace_back("Retry-After", "5");
    if (status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
    Enter(Phase::kAnswer);
    streams_ = false;
    exchange_->Send(std::move(response));
  }

  void Write(std::string bytes) {
    MORAINE_CHECK(!writing_);
    writing_ = true;
    last_write_ = Clock::now();
    sending_ = std::move(bytes);
    WriteSome(0);
  }

  // Piece by piece, so that a client that reads slowly is told from one that does not.
  void WriteSome(size_t sent) {
    socket_.async_write_some(asio::buffer(sending_.data() + sent, sending_.size() - sent),
                             [self = shared_from_this(), sent](error_code error, size_t bytes) {
                               if (self->phase_ == Phase::kClosed) return;
                               if (error) return self->Close();
                               self->last_write_ = Clock::now();
                               if (sent + bytes < self->sending_.size()) return self->WriteSome(sent + bytes);
                               self->writing_ = false;
                               self->Flush();
                             });
  }

  void Answered(bool keep_alive) {
    exchange_.reset();
    if (!keep_alive || core_->stopping) {
      error_code ignored;
      socket_.shutdown(Socket::shutdown_send, ignored);
      input_.clear();
      Enter(Phase::kLinger);
      return Read();
    }
    NewParser();
    Enter(Phase::kIdle);
    // Not from within the handler of the request before: pipelined requests would nest.
    asio::post(core_->io, [self = shared_from_this()] {
      if (self->phase_ == Phase::kIdle) self->Advance();
    });
  }

  void Cut() {
    ++core_->counters.cut;
    Close();
  }

  const std::shared_ptr<HttpCore> core_;
  Socket socket_;
  asio::steady_timer timer_;
  const std::string client_;
  const bool local_socket_;
  const bool check_host_;
  Phase phase_ = Phase::kIdle;
  std::optional<http::request_parser<http::string_body>> parser_;
  bool checked_ = false;  // the header of this request
  std::array<char, kReadBytes> chunk_;
  std::string input_;   // read and not parsed
  size_t charged_ = 0;  // bytes of this body in the core's sum
  bool reading_ = false;
  bool writing_ = false;
  bool streams_ = false;
  std::string sending_;
  Clock::time_point last_write_;
  std::shared_ptr<Exchange> exchange_;
};

void Exchange::Schedule() {
  if (scheduled_ || gone_) return;
  scheduled_ = true;
  asio::post(core_->io, [weak = connection_, self = shared_from_this()] {
    if (const auto connection = weak.lock()) connection->Flush();
  });
}

void AcceptNext(const std::shared_ptr<HttpCore>& core, size_t index);

void Accepted(const std::shared_ptr<HttpCore>& core, const ListenSocket& listener, Socket socket) {
  ++core->counters.connections;
  // One more than allowed is closed at once: there is nothing to spare to tell it why.
  if (core->open.size() >= static_cast<size_t>(core->options.limits.connections)) {
    ++core->counters.refused;
    return;
  }
  error_code error;
  socket.non_blocking(true, error);
  const int fd = socket.native_handle();
  std::string client;
  if (listener.is_unix()) {
    const auto peer = PeerOf(fd);
    if (!peer || (peer->uid != ::geteuid() && peer->uid != 0)) {
      ++core->counters.refused;
      return;
    }
    client = fmt::format("uid:{}", peer->uid);
  } else {
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    client = AddressOf(fd);
  }
  std::make_shared<Connection>(core, std::move(socket), std::move(client), listener)->Start();
}

void AcceptNext(const std::shared_ptr<HttpCore>& core, size_t index) {
  core->acceptors[index]->async_accept([core, index](error_code error, Socket socket) {
    if (core->stopping) return;
    if (!error) {
      Accepted(core, core->sockets[index], std::move(socket));
      return AcceptNext(core, index);
    }
    // As a rule no descriptor is free: clients that leave free some.
    auto pause = std::make_shared<asio::steady_timer>(core->io, kAcceptPause);
    pause->async_wait([core, index, pause](error_code) {
      if (!core->stopping) AcceptNext(core, index);
    });
  });
}

}  // namespace

HttpServer::HttpServer(std::shared_ptr<HttpCore> core) : core_(std::move(core)) {}
HttpServer::~HttpServer() { Stop(milliseconds(0)); }
const HttpCounters& HttpServer::counters() const { return core_->counters; }

Result<std::unique_ptr<HttpServer>> HttpServer::Start(std::vector<ListenSocket> sockets,
                                                      HttpServerOptions options, HttpHandler handler) {
  for (const ListenSocket& socket : sockets) {
    if (!socket.is_local() && options.access.key.empty()) {
      return Fail(ErrorKind::kUsage,
                  fmt::format("{}: other machines reach this address, so it needs an API key "
                              "(--api-key-file or MORAINE_API_KEY)",
                              socket.name()));
    }
  }
  auto core = std::make_shared<HttpCore>(std::move(options), std::move(handler));
  core->sockets = std::move(sockets);
  for (const ListenSocket& socket : core->sockets) {
    // The acceptor owns a copy of the descriptor: the ListenSocket removes its file when it goes.
    const int copy = ::fcntl(socket.fd(), F_DUPFD_CLOEXEC, 0);
    const asio::generic::stream_protocol protocol(socket.is_unix() ? AF_UNIX : AF_INET, 0);
    auto acceptor = std::make_unique<Acceptor>(core->io);
    error_code error;
    if (copy >= 0) acceptor->assign(protocol, copy, error);
    if (copy < 0 || error) return Fail(ErrorKind::kIo, fmt::format("{}: cannot be served", socket.name()));
    core->acceptors.push_back(std::move(acceptor));
  }
  for (size_t i = 0; i < core->acceptors.size(); ++i) AcceptNext(core, i);
  core->thread = std::thread([core] { core->io.run(); });
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(core)));
}

namespace {

// A closed connection leaves the set when its last handler has run: the copies keep each alive meanwhile.
void EachOpen(HttpCore& core, void (Connection::*call)()) {
  std::vector<std::shared_ptr<Connection>> open;
  for (Connection* connection : core.open) open.push_back(connection->shared_from_this());
  for (const auto& connection : open) (connection.get()->*call)();
}

}  // namespace

void HttpServer::Stop(milliseconds grace) {
  if (!core_->thread.joinable()) return;
  asio::post(core_->io, [core = core_] {
    core->stopping = true;
    error_code ignored;
    for (const auto& acceptor : core->acceptors) acceptor->close(ignored);
    EachOpen(*core, &Connection::Stop);
    core->sockets.clear();
  });
  {
    std::unique_lock lock(core_->mutex);
    core_->emptied.wait_for(lock, grace, [&] { return core_->empty; });
  }
  // With everything closed and no more work promised, the thread runs out of handlers and ends.
  asio::post(core_->io, [core = core_] {
    EachOpen(*core, &Connection::Close);
    core->work.reset();
  });
  core_->thread.join();
}

}  // namespace moraine
