// SIGHUP and POST /policy: the policy file is read again while requests run.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/support/http_client.h"
#include "tests/support/served_process.h"
#include "tests/support/temp_folder.h"

namespace moraine::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kTiny = std::string(MORAINE_SOURCE_DIR) + "/models/tiny-r1";

class ServeReload : public ::testing::Test {
 protected:
  ServedOptions Options(bool tcp = false) {
    Policy("[serve]\nqueue = 8\ntemperature = 0\n");
    ServedOptions options;
    options.arguments = {"--ctx", "2048", "--slots", "1", "--policy", File()};
    options.tcp = tcp;
    return options;
  }
  std::string File() const { return folder_ / "my.toml"; }
  void Policy(const std::string& text) const { WriteFile(File(), "schema = 1\n" + text); }
  static HttpReply Reload(const ServedProcess& server) { return server.Client().Post("/policy", "{}"); }
  // The answer to a question that names no temperature.
  static std::string Answer(const ServedProcess& server) {
    const HttpReply reply = server.Client().Post(
        "/v1/chat/completions", R"({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 60})");
    return json::parse(reply.body).at("choices").at(0).at("message").dump();
  }
  static bool Says(const ServedProcess& server, const std::string& text) {
    for (int i = 0; i < 1000; ++i) {
      if (server.said().find(text) != std::string::npos) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  TempFolder folder_;
};

TEST_F(ServeReload, ChangesWhatItCanAndNamesTheRest) {
  ServedProcess server(kTiny, Options());
  const std::string greedy = Answer(server);
  EXPECT_EQ(Answer(server), greedy);
  Policy("[serve]\nqueue = 7\ntemperature = 5\n[context]\ntokens = 1024\n");
  const HttpReply reply = Reload(server);
  ASSERT_EQ(reply.status, 200) << reply.body;
  const json report = json::parse(reply.body);
  EXPECT_EQ(report["changed"].size(), 2u) << reply.body;
  // --ctx stands above the file.
  EXPECT_TRUE(report["needs_restart"].empty()) << reply.body;
  EXPECT_NE(Answer(server), greedy);
  Policy("[serve]\nqueue = 7\ntemperature = 0\n[cpu]\nthreads = 1\n");
  const json second = json::parse(Reload(server).body);
  ASSERT_EQ(second["needs_restart"].size(), 1u);
  EXPECT_EQ(second["needs_restart"][0]["key"], "cpu.threads");
  EXPECT_THAT(server.said(), HasSubstr("cpu.threads = 1 needs a restart"));
  EXPECT_EQ(Answer(server), greedy);
  // Nobody may wait any more: one runs, the next is refused.
  HttpClient running = server.Client();
  running.SendPost(
      "/v1/chat/completions",
      R"({"messages": [{"role": "user", "content": "Hi"}], "ignore_eos": true, "stream": true})");
  ASSERT_TRUE(running.ReadUntil("data: "));
  Policy("[serve]\nqueue = 0\ntemperature = 0\n");
  EXPECT_EQ(Reload(server).status, 200);
  EXPECT_EQ(server.Client()
                .Post("/v1/chat/completions", R"({"messages": [{"role": "user", "content": "Hi"}]})")
                .status,
            429);
}

TEST_F(ServeReload, ASignalDoesTheSame) {
  ServedProcess server(kTiny, Options());
  Policy("[serve]\nqueue = 5\n");
  server.Signal(SIGHUP);
  EXPECT_TRUE(Says(server, "serve.queue = 5 (was 8)")) << server.said();
  EXPECT_EQ(server.Client().Get("/health").status, 200);
  server.Signal(SIGHUP);
  EXPECT_TRUE(Says(server, "nothing has changed"));
}

TEST_F(ServeReload, ABadFileChangesNothingAndIsShownWithItsPlace) {
  ServedProcess server(kTiny, Options());
  Policy("[serve]\nqueue = 5\nqeue = 7\n");
  const HttpReply reply = Reload(server);
  EXPECT_EQ(reply.status, 400);
  EXPECT_THAT(reply.body, HasSubstr("my.toml:4:1"));
  server.Signal(SIGHUP);
  EXPECT_TRUE(Says(server, "the policy stays as it is")) << server.said();
  Policy("[serve]\nqueue = 8\ntemperature = 0\n");
  EXPECT_EQ(json::parse(Reload(server).body)["changed"].size(), 0u) << "the bad file's queue was taken";
}

TEST_F(ServeReload, OverTcpItIsRefused) {
  ServedProcess server(kTiny, Options(/*tcp=*/true));
  Policy("[serve]\nqueue = 5\n");
  const HttpReply reply = Reload(server);
  EXPECT_EQ(reply.status, 403);
  EXPECT_THAT(reply.body, HasSubstr("unix_socket_only"));
  EXPECT_THAT(server.said(), Not(HasSubstr("serve.queue = 5")));
  EXPECT_EQ(server.Client().Get("/policy").status, 405);
}

}  // namespace
}  // namespace moraine::test
