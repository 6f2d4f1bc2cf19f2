#include "runtime/server/http/http_call.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include "runtime/server/http/http_server.h"
#include "tests/support/temp_folder.h"

namespace moraine::test {
namespace {

using ::testing::HasSubstr;

// A server that does what `handler` does, on a Unix socket and on TCP.
struct Server {
  explicit Server(HttpHandler handler) {
    std::vector<ListenSocket> sockets;
    sockets.push_back(std::move(*ListenSocket::Open({.is_unix = true, .path = folder / "s", .host = ""})));
    sockets.push_back(std::move(*ListenSocket::Open({.is_unix = false, .path = "", .host = "127.0.0.1"})));
    url = "http://" + sockets.back().name();
    HttpServerOptions options;
    options.error_body = [](int, const std::string&, const std::string& message) { return message; };
    server = std::move(*HttpServer::Start(std::move(sockets), std::move(options), std::move(handler)));
  }
  HttpTarget Unix() const { return {.socket = folder / "s", .host = "", .port = ""}; }

  TempFolder folder;
  std::string url;
  std::unique_ptr<HttpServer> server;
};

TEST(HttpCall, SendsAndReadsOverBothKindsOfSocket) {
  const Server server([](HttpRequest request, std::shared_ptr<HttpResponder> responder) {
    responder->Send(
        {.status = request.body.empty() ? 200 : 404,
         .body = request.method + " " + request.path + " " + request.content_type + request.body});
  });
  const auto tcp = ParseHttpUrl(server.url + "/v1");
  ASSERT_TRUE(tcp.has_value()) << tcp.error().message;
  for (const HttpTarget& target : {server.Unix(), *tcp}) {
    const auto get = CallHttp(target, {.path = "/a", .body = "", .key = ""}, {}, {});
    ASSERT_TRUE(get.has_value()) << get.error().message;
    EXPECT_EQ(get->body, "GET /a ");
    const auto post = CallHttp(target, {.path = "/b", .body = "{}", .key = ""}, [](std::string_view) {}, {});
    ASSERT_TRUE(post.has_value()) << post.error().message;
    EXPECT_EQ(post->status, 404);
    EXPECT_EQ(post->body, "POST /b application/json{}") << "what is no 200 is not for on_body";
  }
}

TEST(HttpCall, PiecesComeAsTheyAreSent) {
  std::shared_ptr<HttpResponder> held;
  const Server server([&](HttpRequest, std::shared_ptr<HttpResponder> responder) {
    responder->Begin();
    responder->Write("data: first\n\n");
    held = std::move(responder);
  });
  std::string came;
  const auto answer = CallHttp(server.Unix(), {.path = "/", .body = "", .key = ""},
                               [&](std::string_view piece) {
                                 // The second is sent only once the first is here.
                                 if (came.empty()) {
                                   held->Write("data: second\n\n");
                                   held->End();
                                 }
                                 came += piece;
                               },
                               {});
  ASSERT_TRUE(answer.has_value()) << answer.error().message;
  EXPECT_EQ(came, "data: first\n\ndata: second\n\n");
  held.reset();
}

TEST(HttpCall, StopClosesTheConnection) {
  std::atomic<bool> gone{false};
  std::shared_ptr<HttpResponder> held;
  const Server server([&](HttpRequest, std::shared_ptr<HttpResponder> responder) {
    responder->Begin();
    responder->OnGone([&] { gone = true; });
    held = std::move(responder);
  });
  int asked = 0;
  const auto answer = CallHttp(
      server.Unix(), {.path = "/", .body = "", .key = ""}, [](std::string_view) {},
      [&] { return ++asked > 3; });
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().kind, ErrorKind::kInterrupted);
  for (int i = 0; i < 1000 && !gone; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(gone);
  held.reset();
}

TEST(HttpCall, SaysWhatIsWrong) {
  const TempFolder folder;
  const HttpTarget nobody{.socket = folder / "none", .host = "", .port = ""};
  const auto absent = CallHttp(nobody, {.path = "/", .body = "", .key = ""}, {}, {});
  ASSERT_FALSE(absent.has_value());
  EXPECT_EQ(absent.error().kind, ErrorKind::kIo);
  EXPECT_THAT(absent.error().message, HasSubstr("nobody listens there"));
  const HttpTarget endless{.socket = std::string(500, 'a'), .host = "", .port = ""};
  EXPECT_EQ(CallHttp(endless, {.path = "/", .body = "", .key = ""}, {}, {}).error().kind, ErrorKind::kUsage);
}

TEST(HttpCall, AnAnswerThatBreaksOffIsNone) {
  std::shared_ptr<HttpResponder> held;
  const Server server([&](HttpRequest, std::shared_ptr<HttpResponder> responder) {
    responder->Begin();
    responder->Write("data: half");
    held = std::move(responder);
  });
  const auto answer =
      CallHttp(server.Unix(), {.path = "/", .body = "", .key = ""},
               [&](std::string_view) { server.server->Stop(std::chrono::milliseconds(0)); }, {});
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().kind, ErrorKind::kIo);
  EXPECT_THAT(answer.error().message, HasSubstr("broke off"));
  held.reset();
}

TEST(HttpCall, UrlsAreReadOrRefused) {
  const auto name = [](const std::string& url) {
    const auto target = ParseHttpUrl(url);
    return target.has_value() ? target->Name() : "refused";
  };
  EXPECT_EQ(name("http://localhost"), "http://localhost:80");
  EXPECT_EQ(name("http://127.0.0.1:8080"), "http://127.0.0.1:8080");
  EXPECT_EQ(name("http://127.0.0.1:8080/v1/"), "http://127.0.0.1:8080");
  EXPECT_EQ(name("http://[::1]:8080/v1"), "http://[::1]:8080");
  EXPECT_EQ(name("http://[::1]"), "http://[::1]:80");
  for (const char* wrong : {"", "localhost:80", "https://a", "http://", "http://:80", "http://a:",
                            "http://a:x", "http://a:123456", "http://u:p@a", "http://a/b", "ftp://a"})
    EXPECT_EQ(name(wrong), "refused") << wrong;
}

}  // namespace
}  // namespace moraine::test
