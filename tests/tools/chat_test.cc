// moraine chat as a user meets it: piped, and on a terminal.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "runtime/server/http/http_server.h"
#include "tests/support/moraine_process.h"
#include "tests/support/served_process.h"
#include "tests/support/temp_folder.h"
#include "tests/support/terminal_process.h"

namespace moraine::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kTiny = std::string(MORAINE_SOURCE_DIR) + "/models/tiny-r1";
const std::string kDim = "\033[2m";

class Chat : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = new ServedProcess(kTiny, {.arguments = {"--slots", "1", "--ctx", "100000"}});
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  static std::string Socket() { return server_->address().substr(std::string("unix:").size()); }
  static std::vector<std::string> Words(std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"chat", "--socket", Socket(), "--temperature", "0"});
    return more;
  }
  static ProcessResult Piped(const std::string& input, const std::vector<std::string>& more = {}) {
    return RunMoraine(Words(more), {.input = input});
  }
  static ServedProcess* server_;
};
ServedProcess* Chat::server_ = nullptr;

TEST_F(Chat, PipedQuestionsAreAnsweredWithoutColoursOrPrompts) {
  const ProcessResult result = Piped("What is 348 + 275?\n\nWhat is 5 + 4?\n");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("--- answer ---\n348 + 275 = 623\n"), HasSubstr("5 + 4 = 9"),
                                Not(HasSubstr("\033"))));
  EXPECT_THAT(result.err, AllOf(HasSubstr("of thinking) at "), HasSubstr("tok/s, first token after "),
                                HasSubstr("; prompt of "), HasSubstr("reused"), Not(HasSubstr("> ")),
                                Not(HasSubstr("\033"))));
}

TEST_F(Chat, TheConversationIsSentAndSavedAndForgotten) {
  const TempFolder folder;
  const std::string one = folder / "one.json";
  const std::string two = folder / "two.json";
  const ProcessResult result = Piped(
      fmt::format("What is 5 + 4?\nWhat is 1 + 2?\n/save {}\n/clear\nWhat is 3 + 3?\n/save {}\n/exit\nno\n",
                  one, two),
      {"--system", "Add."});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const json saved = json::parse(ReadFile(one));
  EXPECT_EQ(saved["model"], "tiny-r1");
  ASSERT_EQ(saved["messages"].size(), 5u);
  EXPECT_EQ(saved["messages"][0]["role"], "system");
  EXPECT_EQ(saved["messages"][1]["content"], "What is 5 + 4?");
  EXPECT_THAT(saved["messages"][2]["content"].get<std::string>(), HasSubstr("= 9"));
  EXPECT_THAT(saved["messages"][2]["reasoning_content"].get<std::string>(), HasSubstr("Result"));
  EXPECT_EQ(json::parse(ReadFile(two))["messages"].size(), 3u);
  struct stat found = {};
  ASSERT_EQ(::stat(one.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777, 0600u);
  const ProcessResult again = Piped(fmt::format("/save {}\n", one));
  EXPECT_EQ(again.exit_code, 2) << "never over a file";
  EXPECT_THAT(again.err, HasSubstr("File exists"));
}

TEST_F(Chat, SeveralLinesAreOneQuestion) {
  const ProcessResult result = Piped("\"\"\"\nWhat is\n348 + 275?\n\"\"\"\n/help\n");
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, AllOf(HasSubstr("/clear"), HasSubstr("/exit")));
  EXPECT_THAT(result.out, HasSubstr("--- answer ---")) << result.out;
}

TEST_F(Chat, RefusalsEndAScriptWithTheirExitCode) {
  EXPECT_EQ(Piped("/nope\n").exit_code, 2);
  const ProcessResult name = Piped("", {"--model", "gpt"});
  EXPECT_EQ(name.exit_code, 2);
  EXPECT_THAT(name.err, HasSubstr("tiny-r1"));
  std::string endless = "7";
  for (int i = 0; i < 60000; ++i) endless += " 7";
  const ProcessResult full = Piped(endless + "\n");
  EXPECT_EQ(full.exit_code, 2);
  EXPECT_THAT(full.err, HasSubstr("positions"));
  EXPECT_EQ(RunMoraine({"chat", "--socket", "/x", "--url", "http://a"}).exit_code, 2);
}

TEST_F(Chat, OnATerminalThinkingIsDimAndALineCanBeMended) {
  TerminalProcess chat(Words());
  ASSERT_TRUE(chat.WaitFor("/help")) << chat.shown();
  ASSERT_TRUE(chat.WaitForPrompt());
  chat.Type(
      "What is 348 + 274\x7f"
      "5?\r");  // Backspace
  ASSERT_TRUE(chat.WaitFor(kDim + "--- thinking ---")) << chat.shown();
  ASSERT_TRUE(chat.WaitFor("348 + 275 = 623")) << chat.shown();
  ASSERT_TRUE(chat.WaitFor("tok/s"));
  ASSERT_TRUE(chat.WaitForPrompt());
  chat.Type("\x1b[A\r");  // the line before
  ASSERT_TRUE(chat.WaitFor("= 623")) << chat.shown();
  chat.Type("/exit\r");
  EXPECT_EQ(chat.Wait(), 0) << chat.shown();
}

TEST_F(Chat, NoColorIsHeard) {
  TerminalProcess chat(Words(), {"NO_COLOR=1"});
  ASSERT_TRUE(chat.WaitForPrompt());
  chat.Type("What is 5 + 4?\r");
  ASSERT_TRUE(chat.WaitFor("= 9")) << chat.shown();
  ASSERT_TRUE(chat.WaitForPrompt());
  chat.Type("\x04");
  EXPECT_EQ(chat.Wait(), 0);
  EXPECT_THAT(chat.shown(), Not(HasSubstr(kDim)));
}

// The one slot is taken, so that the answer waits until it is stopped.
TEST_F(Chat, CtrlCStopsTheAnswerAndDropsALineButNotTheProgram) {
  const auto shows = [](const std::string& line) {
    for (int i = 0; i < 1000; ++i) {
      if (server_->Client().Get("/metrics").body.find("\n" + line + "\n") != std::string::npos) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  };
  HttpClient hog = server_->Client();
  hog.SendPost("/v1/completions", R"({"prompt": "a", "ignore_eos": true, "max_tokens": 90000})");
  ASSERT_TRUE(shows("moraine_num_requests_running 1"));
  TerminalProcess chat(Words());
  ASSERT_TRUE(chat.WaitForPrompt());
  chat.Type("What is 5 + 4?\r");
  // Not before the server has the question: until then Ctrl-C drops the line.
  ASSERT_TRUE(shows("moraine_num_requests_waiting 1")) << chat.shown();
  chat.Type("\x03");
  const bool stopped = chat.WaitFor("stopped; no token");
  hog.Close();
  ASSERT_TRUE(stopped) << chat.shown();
  ASSERT_TRUE(chat.WaitForPrompt());
  chat.Type("half a li\x03");
  ASSERT_TRUE(chat.WaitFor("(Ctrl-D or /exit ends)")) << chat.shown();
  ASSERT_TRUE(chat.WaitForPrompt());
  chat.Type("What is 1 + 2?\r");
  ASSERT_TRUE(chat.WaitFor("1 + 2 = 3")) << chat.shown();
  ASSERT_TRUE(chat.WaitForPrompt());
  chat.Type("\x04");
  EXPECT_EQ(chat.Wait(), 0);
}

TEST(ChatAlone, WithoutAServerItSaysHowToStartOne) {
  const TempFolder folder;
  const ProcessResult result = RunMoraine({"chat", "--socket", folder / "s.sock"});
  EXPECT_EQ(result.exit_code, 5);
  EXPECT_THAT(result.err, AllOf(HasSubstr(folder / "s.sock"),
                                HasSubstr("moraine serve MODEL --listen unix:" + (folder / "s.sock"))));
}

TEST(ChatAlone, ShowsItsKeyOverTcp) {
  const ServedProcess server(kTiny, {.environment = {"MORAINE_API_KEY=abc"}, .tcp = true});
  const TempFolder folder;
  const std::string key = folder / "key";
  for (const auto& [text, code] : {std::pair{"abc", 0}, std::pair{"abd", 2}}) {
    WriteFile(key, text);
    const ProcessResult result =
        RunMoraine({"chat", "--url", "http://" + server.address() + "/v1", "--api-key-file", key},
                   {.input = "What is 5 + 4?\n"});
    EXPECT_EQ(result.exit_code, code) << result.err;
    EXPECT_EQ(result.err.find("--api-key-file") != std::string::npos, code != 0) << result.err;
  }
}

// A server that says what it is told to; the chat's answer is `stream`.
class Teller {
 public:
  explicit Teller(std::string stream, int loading = 0) : stream_(std::move(stream)), loading_(loading) {
    std::vector<ListenSocket> sockets;
    sockets.push_back(std::move(*ListenSocket::Open({.is_unix = true, .path = socket(), .host = ""})));
    HttpServerOptions options;
    options.error_body = [](int, const std::string&, const std::string& message) { return message; };
    server_ = std::move(*HttpServer::Start(
        std::move(sockets), std::move(options),
        [this](HttpRequest request, std::shared_ptr<HttpResponder> answer) { Tell(request, answer); }));
  }
  std::string socket() const { return folder_ / "s"; }
  ProcessResult Ask() const { return RunMoraine({"chat", "--socket", socket()}, {.input = "Hello\n"}); }

 private:
  void Tell(const HttpRequest& request, const std::shared_ptr<HttpResponder>& answer) {
    if (request.path == "/health" && loading_-- > 0)
      return answer->Send(
          {.status = 503,
           .body = R"({"error": {"code": "loading", "message": "the model is being loaded: 40 %"}})"});
    if (request.path == "/health") return answer->Send({.body = "{}"});
    if (request.path == "/v1/models") return answer->Send({.body = R"({"data": [{"id": "m"}]})"});
    answer->Begin();
    answer->Write(stream_);
    answer->End();
  }

  const std::string stream_;
  int loading_;
  TempFolder folder_;
  std::unique_ptr<HttpServer> server_;
};

std::string Delta(const std::string& text) {
  return fmt::format("data: {{\"choices\": [{{\"delta\": {{\"content\": \"{}\"}}}}]}}\n\n", text);
}

TEST(ChatAlone, WaitsWhileTheModelIsLoaded) {
  const ProcessResult result = Teller(Delta("Hi") + "data: [DONE]\n\n", 2).Ask();
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "Hi\n");
  EXPECT_THAT(result.err, HasSubstr("moraine: the model is being loaded: 40 %\n"));
}

TEST(ChatAlone, WhatBreaksOffIsSaidAndEndsAScript) {
  const ProcessResult failed =
      Teller(Delta("Hi") + "data: {\"error\": {\"message\": \"no disk\"}}\n\ndata: [DONE]\n\n").Ask();
  EXPECT_EQ(failed.exit_code, 5);
  EXPECT_EQ(failed.out, "Hi\n");
  EXPECT_THAT(failed.err, HasSubstr("no disk"));
  const ProcessResult cut = Teller(Delta("Hi")).Ask();
  EXPECT_EQ(cut.exit_code, 5);
  EXPECT_THAT(cut.err, HasSubstr("ends in the middle"));
  // Whatever else comes for JSON is no answer, and no crash.
  const ProcessResult odd = Teller(
                                "data: {\n\ndata: []\n\ndata: {\"choices\": 3, \"usage\": "
                                "{\"prompt_tokens\": \"x\"}}\n\ndata: [DONE]\n\n")
                                .Ask();
  EXPECT_EQ(odd.exit_code, 0) << odd.err;
  EXPECT_EQ(odd.out, "");
}

}  // namespace
}  // namespace moraine::test
