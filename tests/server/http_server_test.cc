// HTTP as strangers speak it: limits, slow and silent clients, access, streams, disconnects.
#include "runtime/server/http/http_server.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "tests/support/http_client.h"
#include "tests/support/temp_folder.h"

namespace moraine::test {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// A server whose answers the test gives.
class Served {
 public:
  explicit Served(HttpServerOptions options = {}, const std::string& address = "") {
    options.error_body = [](int status, const std::string& code, const std::string& message) {
      return fmt::format("{{\"error\":{{\"status\":{},\"code\":\"{}\",\"message\":\"{}\"}}}}", status, code,
                         message);
    };
    auto parsed = ParseListenAddress(address.empty() ? "unix:" + (folder_ / "s.sock") : address);
    auto socket = ListenSocket::Open(*parsed);
    if (!socket.has_value()) std::abort();
    address_ = socket->name();
    std::vector<ListenSocket> sockets;
    sockets.push_back(std::move(*socket));
    auto started = HttpServer::Start(std::move(sockets), std::move(options),
                                     [this](HttpRequest request, std::shared_ptr<HttpResponder> responder) {
                                       Handle(std::move(request), std::move(responder));
                                     });
    if (!started.has_value()) std::abort();
    server_ = std::move(*started);
  }

  HttpClient Client() const { return HttpClient(address_); }
  HttpServer& server() { return *server_; }
  const std::string& address() const { return address_; }

  // The responder of a request to /hold, once it has come.
  std::shared_ptr<HttpResponder> Held() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(30), [&] { return held_ != nullptr; });
    return std::exchange(held_, nullptr);
  }

 private:
  void Handle(HttpRequest request, std::shared_ptr<HttpResponder> responder) {
    if (request.path == "/hold") {
      const std::lock_guard lock(mutex_);
      held_ = std::move(responder);
      changed_.notify_all();
      return;
    }
    if (request.path == "/drop") return;
    responder->Send({.body = fmt::format("{} {} {} {}", request.method, request.path, request.body.size(),
                                         request.client)});
  }

  TempFolder folder_;
  std::string address_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<HttpResponder> held_;
  std::unique_ptr<HttpServer> server_;
};

// Waits for what another thread does; false after half a minute.
template <typename Condition>
bool Eventually(const Condition& condition) {
  for (int i = 0; i < 3000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

TEST(HttpServer, AnswersRequestAfterRequestOnOneConnection) {
  const Served served;
  HttpClient client = served.Client();
  for (int i = 0; i < 3; ++i) {
    const HttpReply reply = client.Get("/a/b?c=d");
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.body, fmt::format("GET /a/b 0 uid:{}", ::geteuid()));
    EXPECT_THAT(reply.headers.at("x-request-id"), HasSubstr("req-"));
    EXPECT_EQ(reply.headers.at("connection"), "keep-alive");
  }
  EXPECT_THAT(client.Post("/p", std::string(300000, 'x')).body, HasSubstr("POST /p 300000"));
}

TEST(HttpServer, AnswersPipelinedRequestsInOrder) {
  const Served served;
  HttpClient client = served.Client();
  std::string all;
  for (int i = 0; i < 50; ++i) all += fmt::format("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", i);
  client.Raw(all);
  for (int i = 0; i < 50; ++i) EXPECT_THAT(client.Read().body, HasSubstr(fmt::format("GET /{} ", i)));
}

TEST(HttpServer, HeadHasNoBodyAndChunkedBodiesAndContinueWork) {
  const Served served;
  HttpClient client = served.Client();
  client.Raw("HEAD /h HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const HttpReply head = client.Read(60, true);
  EXPECT_EQ(head.status, 200);
  EXPECT_NE(head.headers.at("content-length"), "0");
  client.Raw(
      "POST /c HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
  EXPECT_THAT(client.Read().body, HasSubstr("POST /c 5"));
  client.Raw("POST /e HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(client.Read().status, 100);
  client.Raw("{}");
  EXPECT_THAT(client.Read().body, HasSubstr("POST /e 2"));
}

struct Bad {
  const char* what;
  std::string bytes;
  int status;
};

TEST(HttpServer, RefusesWhatIsNotARequestAndServesTheNext) {
  HttpServerOptions options;
  options.limits.body_bytes = 1000;
  const Served served(std::move(options));
  const std::string post = "POST / HTTP/1.1\r\nHost: localhost\r\n";
  const Bad cases[] = {
      {"two lengths", post + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400},
      {"length and chunked", post + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", 400},
      {"chunked and length", post + "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}", 400},
      {"negative length", post + "Content-Length: -2\r\n\r\n", 400},
      {"length 2^64", post + "Content-Length: 18446744073709551616\r\n\r\n", 400},
      {"negative chunk", post + "Transfer-Encoding: chunked\r\n\r\n-2\r\nxx\r\n", 400},
      {"chunk 2^64-1", post + "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\nxx\r\n", 413},
      {"body over the limit", post + "Content-Length: 1001\r\n\r\n", 413},
      {"chunks over the limit",
       post + "Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + std::string(1001, 'x') + "\r\n0\r\n\r\n", 413},
      {"gzip", post + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx", 415},
      {"transfer gzip", post + "Transfer-Encoding: gzip\r\n\r\nxx", 400},
      {"header 1 MB", post + "X: " + std::string(1 << 20, 'x') + "\r\n\r\n", 431},
      {"10,000 headers",
       [&] {
         std::string all = post;
         for (int i = 0; i < 10000; ++i) all += fmt::format("X-{}: 1\r\n", i);
         return all + "\r\n";
       }(),
       431},
      {"URI over the limit", "GET /" + std::string(9000, 'x') + " HTTP/1.1\r\nHost: localhost\r\n\r\n", 414},
      {"NUL in the path", std::string("GET /a\0b HTTP/1.1\r\n\r\n", 22), 400},
      {"CR in a value", "GET / HTTP/1.1\r\nX: a\rb\r\n\r\n", 400},
      {"HTTP/0.9", "GET /\r\n\r\n", 400},
      {"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
      {"TLS", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", 13), 400},
  };
  for (const Bad& bad : cases) {
    HttpClient client = served.Client();
    client.Raw(bad.bytes);
    const HttpReply reply = client.Read();
    EXPECT_EQ(reply.status, bad.status) << bad.what << ": " << reply.body;
    EXPECT_THAT(reply.body, HasSubstr("\"error\"")) << bad.what;
    EXPECT_TRUE(client.ReadsEnd()) << bad.what;
    EXPECT_EQ(served.Client().Get("/").status, 200) << bad.what;
  }
}

TEST(HttpServer, BodiesTogetherHaveALimit) {
  HttpServerOptions options;
  options.limits.all_body_bytes = 1'000'000;
  Served served(std::move(options));
  // A request that is not answered yet holds most of it.
  HttpClient first = served.Client();
  first.SendPost("/hold", std::string(900'000, 'x'));
  auto responder = served.Held();
  ASSERT_NE(responder, nullptr);
  const HttpReply second = served.Client().Post("/", std::string(300'000, 'x'));
  EXPECT_EQ(second.status, 503);
  EXPECT_EQ(second.headers.at("retry-after"), "5");
  EXPECT_EQ(served.Client().Get("/").status, 200);
  responder->Send({.body = "done"});
  EXPECT_EQ(first.Read().status, 200);
  EXPECT_TRUE(Eventually([&] { return served.Client().Post("/", std::string(900'000, 'x')).status == 200; }));
}

TEST(HttpServer, SlowHeadersAndBodiesAndIdleConnectionsEnd) {
  HttpServerOptions options;
  options.limits.header_time = options.limits.body_time = options.limits.idle_time = milliseconds(200);
  const Served served(std::move(options));
  HttpClient header = served.Client();
  header.Raw("GET / HT");
  EXPECT_EQ(header.Read().status, 408);
  HttpClient body = served.Client();
  body.Raw("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab");
  EXPECT_EQ(body.Read().status, 408);
  HttpClient idle = served.Client();
  EXPECT_TRUE(idle.ReadsEnd());
  EXPECT_EQ(idle.received(), "");
}

TEST(HttpServer, AThousandIdleConnectionsLeaveRoomForMore) {
  // Both ends of each live in this process.
  rlimit limit = {};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &limit), 0);
  limit.rlim_cur = limit.rlim_max;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  if (limit.rlim_max < 2200) GTEST_SKIP() << "only " << limit.rlim_max << " descriptors are allowed here";
  Served served;
  std::vector<HttpClient> idle;
  for (int i = 0; i < 1000; ++i) idle.push_back(served.Client());
  // Half of them in the middle of a header.
  for (size_t i = 0; i < idle.size(); i += 2) idle[i].Raw("GET / HTTP/1.1\r\n");
  EXPECT_EQ(served.Client().Get("/").status, 200);
  EXPECT_EQ(served.server().counters().refused, 0);
  EXPECT_GE(served.server().counters().open, 1000);
}

TEST(HttpServer, MoreConnectionsThanAllowedAreClosed) {
  HttpServerOptions options;
  options.limits.connections = 2;
  Served served(std::move(options));
  HttpClient first = served.Client();
  HttpClient second = served.Client();
  EXPECT_EQ(first.Get("/").status, 200);
  EXPECT_EQ(second.Get("/").status, 200);
  HttpClient third = served.Client();
  EXPECT_TRUE(third.ReadsEnd());
  first.Close();
  EXPECT_TRUE(Eventually([&] { return served.Client().Get("/").status == 200; }));
}

TEST(HttpServer, StreamsFromAnotherThreadWithPingsWhileSilent) {
  HttpServerOptions options;
  options.limits.ping_time = milliseconds(50);
  Served served(std::move(options));
  HttpClient client = served.Client();
  client.Raw("GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n");
  auto responder = served.Held();
  ASSERT_NE(responder, nullptr);
  responder->Begin();
  EXPECT_TRUE(client.ReadUntil(": ping\n\n"));
  EXPECT_TRUE(responder->Write("data: 1\n\n"));
  EXPECT_TRUE(client.ReadUntil("data: 1\n\n"));
  responder->Write("data: 2\n\n");
  responder->End();
  const HttpReply reply = client.Read();
  EXPECT_EQ(reply.status, 200);
  EXPECT_THAT(reply.headers.at("content-type"), HasSubstr("text/event-stream"));
  EXPECT_EQ(reply.headers.at("cache-control"), "no-cache");
  EXPECT_EQ(reply.headers.at("x-accel-buffering"), "no");
  EXPECT_THAT(reply.body, AllOf(HasSubstr("data: 1\n\n"), HasSubstr("data: 2\n\n")));
  EXPECT_EQ(client.Get("/next").status, 200);
}

TEST(HttpServer, TellsTheHandlerOfAClientThatLeavesWhetherOrNotItStreams) {
  for (const bool streams : {false, true}) {
    Served served;
    HttpClient client = served.Client();
    client.Raw("GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n");
    auto responder = served.Held();
    ASSERT_NE(responder, nullptr);
    if (streams) responder->Begin();
    std::atomic<int> calls{0};
    responder->OnGone([&] { ++calls; });
    EXPECT_FALSE(responder->gone());
    client.Close();
    EXPECT_TRUE(Eventually([&] { return calls == 1; }));
    EXPECT_TRUE(responder->gone());
    EXPECT_FALSE(responder->Write("data: late\n\n"));
    responder->OnGone([&] { ++calls; });
    EXPECT_EQ(calls, 2);
    EXPECT_EQ(served.server().counters().gone, 1);
  }
}

TEST(HttpServer, CutsAReaderThatNeverReads) {
  HttpServerOptions options;
  options.limits.unsent_bytes = 100'000;
  Served served(std::move(options));
  HttpClient client = served.Client();
  client.Raw("GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n");
  auto responder = served.Held();
  ASSERT_NE(responder, nullptr);
  responder->Begin();
  std::atomic<bool> gone{false};
  responder->OnGone([&] { gone = true; });
  const std::string piece = "data: " + std::string(1000, 'x') + "\n\n";
  EXPECT_TRUE(Eventually([&] {
    for (int i = 0; i < 1000 && responder->Write(piece); ++i) {
    }
    return gone.load();
  }));
  EXPECT_EQ(served.server().counters().cut, 1);
  EXPECT_EQ(served.Client().Get("/").status, 200);
}

TEST(HttpServer, ADroppedRequestGetsA500AndAnAnswerAfterTheServerIsNothing) {
  auto served = std::make_unique<Served>();
  EXPECT_EQ(served->Client().Get("/drop").status, 500);
  HttpClient client = served->Client();
  client.Raw("GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n");
  auto responder = served->Held();
  ASSERT_NE(responder, nullptr);
  served.reset();
  EXPECT_TRUE(responder->gone());
  responder->Send({.body = "late"});
}

TEST(HttpServer, StopLetsAnAnswerUnderWayEnd) {
  Served served;
  HttpClient client = served.Client();
  client.Raw("GET /hold HTTP/1.1\r\nHost: localhost\r\n\r\n");
  auto responder = served.Held();
  ASSERT_NE(responder, nullptr);
  std::thread stopper([&] { served.server().Stop(std::chrono::seconds(30)); });
  EXPECT_TRUE(Eventually([&] { return !served.Client().connected(); }));
  responder->Send({.body = "done"});
  EXPECT_EQ(client.Read().body, "done");
  client.Close();
  stopper.join();
}

TEST(HttpServer, OverTcpTheHostMustBeOneOfOursAndPagesNeedToBeListed) {
  HttpServerOptions options;
  options.access.origins = {"https://chat.example"};
  const Served served(std::move(options), "127.0.0.1:0");
  const auto ask = [&](const std::string& headers, const std::string& method = "GET") {
    HttpClient client = served.Client();
    client.Raw(method + " / HTTP/1.1\r\n" + headers + "\r\n");
    return client.Read();
  };
  EXPECT_EQ(ask("Host: 127.0.0.1:1234\r\n").status, 200);
  EXPECT_EQ(ask("Host: LocalHost\r\n").status, 200);
  EXPECT_EQ(ask("Host: [::1]:80\r\n").status, 200);
  EXPECT_EQ(ask("Host: evil.example\r\n").status, 403);
  EXPECT_EQ(ask("").status, 403);
  EXPECT_EQ(ask("Host: localhost\r\nOrigin: https://evil.example\r\n").status, 403);
  EXPECT_EQ(ask("Host: localhost\r\nOrigin: null\r\n").status, 403);
  const HttpReply listed = ask("Host: localhost\r\nOrigin: https://chat.example\r\n");
  EXPECT_EQ(listed.status, 200);
  EXPECT_EQ(listed.headers.at("access-control-allow-origin"), "https://chat.example");
  EXPECT_EQ(ask("Host: localhost\r\n").headers.count("access-control-allow-origin"), 0u);
}

TEST(HttpServer, AKeyGuardsEverythingButTheOpenPaths) {
  HttpServerOptions options;
  options.access.key = "sesame";
  options.access.open_paths = {"/health"};
  const Served served(std::move(options));
  EXPECT_EQ(served.Client().Get("/health").status, 200);
  const HttpReply refused = served.Client().Get("/v1/models");
  EXPECT_EQ(refused.status, 401);
  EXPECT_EQ(refused.headers.at("www-authenticate"), "Bearer");
  EXPECT_EQ(served.Client().Get("/x", "Authorization: Bearer sesam\r\n").status, 401);
  EXPECT_EQ(served.Client().Get("/x", "Authorization: Bearer sesame \r\n").status, 200);
  EXPECT_EQ(served.Client().Get("/x", "Authorization: bearer sesame\r\n").status, 200);
  EXPECT_EQ(served.Client().Get("/x", "X-Api-Key: sesame\r\n").status, 200);
  EXPECT_EQ(served.Client().Get("/health/../x").status, 401);
  // Refused before its body is read.
  HttpClient client = served.Client();
  client.Raw("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n");
  EXPECT_EQ(client.Read().status, 401);
}

}  // namespace
}  // namespace moraine::test
