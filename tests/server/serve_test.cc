// moraine serve as clients meet it: the shipped model behind every endpoint.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "runtime/core/file.h"
#include "runtime/core/handle.h"
#include "tests/support/http_client.h"
#include "tests/support/moraine_process.h"
#include "tests/support/served_process.h"
#include "tests/support/temp_folder.h"

namespace moraine::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kTiny = std::string(MORAINE_SOURCE_DIR) + "/models/tiny-r1";
const std::string kChat = "/v1/chat/completions";

json Parse(const HttpReply& reply) {
  json parsed = json::parse(reply.body, nullptr, false);
  EXPECT_FALSE(parsed.is_discarded()) << reply.status << " " << reply.body;
  return parsed;
}

std::string Ask(const std::string& question, const std::string& more = "") {
  return fmt::format(R"({{"messages": [{{"role": "user", "content": "{}"}}], "temperature": 0{}}})", question,
                     more.empty() ? "" : ", " + more);
}

// The data of each event.
std::vector<std::string> Events(const std::string& body) {
  std::vector<std::string> events;
  for (size_t at = 0; (at = body.find("data: ", at)) != body.npos;) {
    const size_t end = body.find("\n\n", at);
    events.push_back(body.substr(at + 6, end - at - 6));
    at = end;
  }
  return events;
}

// One server for the tests that leave it as it was.
class Serve : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = new ServedProcess(kTiny, {.arguments = {"--alias", "r1", "--slots", "2", "--ctx", "4096"}});
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override { ASSERT_EQ(Get("/health").status, 200) << server_->said(); }
  static HttpReply Get(const std::string& path) { return server_->Client().Get(path); }
  static HttpReply Post(const std::string& path, const std::string& body) {
    return server_->Client().Post(path, body);
  }
  static double Metric(const std::string& name) {
    const std::string page = Get("/metrics").body;
    const size_t at = page.find("\nmoraine_" + name + " ");
    return at == page.npos ? NAN : std::stod(page.substr(at + name.size() + 10));
  }
  static bool Eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 3000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  static ServedProcess* server_;
};
ServedProcess* Serve::server_ = nullptr;

TEST_F(Serve, AnswersAChatWithReasoningApart) {
  const json answer = Parse(Post(kChat, Ask("What is 348 + 275?", R"("model": "r1")")));
  EXPECT_EQ(answer["object"], "chat.completion");
  EXPECT_EQ(answer["model"], "r1");
  EXPECT_THAT(answer["id"].get<std::string>(), HasSubstr("chatcmpl-"));
  const json& choice = answer["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(choice["message"]["role"], "assistant");
  EXPECT_THAT(choice["message"]["content"].get<std::string>(),
              AllOf(HasSubstr("623"), Not(HasSubstr("think"))));
  EXPECT_THAT(choice["message"]["reasoning_content"].get<std::string>(), HasSubstr("8+5=13"));
  EXPECT_EQ(choice["message"]["reasoning"], choice["message"]["reasoning_content"]);
  const json& usage = answer["usage"];
  EXPECT_GT(usage["prompt_tokens"], 5);
  EXPECT_EQ(usage["total_tokens"], usage["prompt_tokens"].get<int>() + usage["completion_tokens"].get<int>());
  EXPECT_GT(usage["completion_tokens_details"]["reasoning_tokens"], 20);
}

TEST_F(Serve, AStreamJoinsToTheWholeAnswer) {
  const json whole = Parse(Post(kChat, Ask("What is 348 + 275?")));
  const HttpReply reply =
      Post(kChat, Ask("What is 348 + 275?", R"("stream": true, "stream_options": {"include_usage": true})"));
  EXPECT_EQ(reply.status, 200);
  const auto events = Events(reply.body);
  ASSERT_GT(events.size(), 10u);
  EXPECT_EQ(events.back(), "[DONE]");
  std::string content;
  std::string reasoning;
  std::string finish;
  for (size_t i = 0; i + 2 < events.size(); ++i) {
    const json chunk = json::parse(events[i]);
    EXPECT_EQ(chunk["object"], "chat.completion.chunk");
    EXPECT_TRUE(chunk["usage"].is_null());
    const json& choice = chunk["choices"][0];
    if (i == 0) {
      EXPECT_EQ(choice["delta"]["role"], "assistant");
    }
    content += choice["delta"].value("content", "");
    reasoning += choice["delta"].value("reasoning_content", "");
    if (!choice["finish_reason"].is_null()) finish = choice["finish_reason"];
  }
  EXPECT_EQ(content, whole["choices"][0]["message"]["content"]);
  EXPECT_EQ(reasoning, whole["choices"][0]["message"]["reasoning_content"]);
  EXPECT_EQ(finish, "stop");
  const json usage = json::parse(events[events.size() - 2]);
  EXPECT_TRUE(usage["choices"].empty());
  EXPECT_EQ(usage["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
}

TEST_F(Serve, AStopStringEndsTheAnswerBeforeIt) {
  const json answer = Parse(Post(kChat, Ask("What is 348 + 275?", R"("stop": ["= 6", "zzz"])")));
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "stop");
  const auto text = answer["choices"][0]["message"]["content"].get<std::string>();
  EXPECT_THAT(text, AllOf(HasSubstr("348 + 275 "), Not(HasSubstr("="))));
  std::string streamed;
  for (const std::string& event :
       Events(Post(kChat, Ask("What is 348 + 275?", R"("stop": "= 6", "stream": true)")).body)) {
    if (event != "[DONE]") streamed += json::parse(event)["choices"][0]["delta"].value("content", "");
  }
  EXPECT_EQ(streamed, text);
}

TEST_F(Serve, LimitsSeedsAndChoices) {
  const json few = Parse(Post(kChat, Ask("What is 348 + 275?", R"("max_tokens": 3)")));
  EXPECT_EQ(few["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(few["usage"]["completion_tokens"], 3);
  const auto several = [](int seed) {
    return Parse(Post(kChat, fmt::format(R"({{"messages": [{{"role": "user", "content": "Hello!"}}], "n": 3,
        "temperature": 3, "top_p": 1, "max_tokens": 12, "seed": {}, "return_token_ids": true}})",
                                         seed)))["choices"];
  };
  const json first = several(7);
  ASSERT_EQ(first.size(), 3u);
  EXPECT_NE(first[0]["token_ids"], first[1]["token_ids"]);
  EXPECT_EQ(first, several(7));
  EXPECT_NE(first, several(8));
  const json long_one = Parse(Post(kChat, Ask("Hi", R"("ignore_eos": true, "max_tokens": 70)")));
  EXPECT_EQ(long_one["usage"]["completion_tokens"], 70);
  const json at_least = Parse(Post(kChat, Ask("Hi", R"("min_tokens": 90, "max_tokens": 90)")));
  EXPECT_EQ(at_least["usage"]["completion_tokens"], 90);
}

TEST_F(Serve, LogprobsAreThoseOfTheTokens) {
  const json answer =
      Parse(Post(kChat, Ask("What is 5 + 4?", R"("logprobs": true, "top_logprobs": 2, "max_tokens": 8)")));
  const json& content = answer["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(content.size(), 8u);
  for (const json& token : content) {
    EXPECT_LE(token["logprob"], 0);
    ASSERT_EQ(token["top_logprobs"].size(), 2u);
    EXPECT_EQ(token["top_logprobs"][0]["token"], token["token"]) << "greedy";
    EXPECT_GE(token["top_logprobs"][0]["logprob"], token["top_logprobs"][1]["logprob"]);
  }
}

// The shipped model knows no tools: that the prompt has begun the call makes it one, whatever follows.
const std::string kForced =
    R"("tools": [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}],
       "tool_choice": {"type": "function", "function": {"name": "add"}}, "max_tokens": 40)";

TEST_F(Serve, ACallThatIsDemandedIsMade) {
  const json answer = Parse(Post(kChat, Ask("What is 348 + 275?", kForced)));
  const json& choice = answer["choices"][0];
  const json& message = choice["message"];
  ASSERT_EQ(message["tool_calls"].size(), 1u) << answer;
  const json& call = message["tool_calls"][0];
  EXPECT_EQ(call["type"], "function");
  EXPECT_EQ(call["function"]["name"], "add");
  EXPECT_NE(call["function"]["arguments"], "");
  EXPECT_TRUE(message["content"].is_null());
  const bool cut = answer["usage"]["completion_tokens"] == 40;
  EXPECT_EQ(choice["finish_reason"], cut ? "length" : "tool_calls");

  const auto events = Events(Post(kChat, Ask("What is 348 + 275?", kForced + R"(, "stream": true)")).body);
  std::string arguments;
  std::string finish;
  int named = 0;
  for (size_t i = 0; i + 1 < events.size(); ++i) {
    const json one = json::parse(events[i])["choices"][0];
    if (!one["finish_reason"].is_null()) finish = one["finish_reason"];
    if (!one["delta"].contains("tool_calls")) continue;
    const json& delta = one["delta"]["tool_calls"][0];
    EXPECT_EQ(delta["index"], 0);
    if (delta["function"].contains("name")) {
      ++named;
      EXPECT_THAT(delta["id"].get<std::string>(), HasSubstr("call_"));
      EXPECT_EQ(arguments, "") << "the name comes first";
    }
    arguments += delta["function"]["arguments"];
  }
  EXPECT_EQ(named, 1);
  EXPECT_EQ(arguments, call["function"]["arguments"]);
  EXPECT_EQ(finish, choice["finish_reason"]);

  const std::string cut_off = R"("tools": [{"type": "function", "function": {"name": "add"}}],
      "tool_choice": "required", "max_tokens": 2)";
  const json half = Parse(Post(kChat, Ask("What is 348 + 275?", cut_off)))["choices"][0];
  EXPECT_EQ(half["finish_reason"], "length");
  EXPECT_EQ(half["message"]["tool_calls"][0]["function"]["name"], "add");
}

TEST_F(Serve, ToolsAreInThePrompt) {
  const auto tokens = [](const std::string& more) {
    return Parse(Post(kChat, Ask("Hi", "\"max_tokens\": 1" + more)))["usage"]["prompt_tokens"].get<int>();
  };
  const std::string tools = R"(, "tools": [{"type": "function", "function": {"name": "add"}}])";
  EXPECT_GT(tokens(tools), tokens("") + 50);
  EXPECT_EQ(tokens(tools + R"(, "tool_choice": "none")"), tokens(""));
}

TEST_F(Serve, AResponseSaysWhatAChatSays) {
  const json chat = Parse(Post(kChat, Ask("What is 348 + 275?")))["choices"][0]["message"];
  const std::string ask = R"({"input": "What is 348 + 275?", "temperature": 0)";
  const json response = Parse(Post("/v1/responses", ask + "}"));
  EXPECT_EQ(response["object"], "response");
  EXPECT_EQ(response["status"], "completed");
  ASSERT_EQ(response["output"].size(), 2u) << response;
  EXPECT_EQ(response["output"][0]["content"][0]["text"], chat["reasoning"]);
  EXPECT_EQ(response["output"][1]["content"][0]["text"], chat["content"]);
  EXPECT_GT(response["usage"]["output_tokens_details"]["reasoning_tokens"], 20);

  const auto events = Events(Post("/v1/responses", ask + R"(, "stream": true})").body);
  EXPECT_EQ(json::parse(events.front())["type"], "response.created");
  const json last = json::parse(events.back());
  EXPECT_EQ(last["type"], "response.completed");
  EXPECT_EQ(last["response"]["output"][1]["content"], response["output"][1]["content"]);
  EXPECT_EQ(
      Parse(Post("/v1/responses", R"({"input": "Hi", "previous_response_id": "resp_1"})"))["error"]["param"],
      "previous_response_id");
}

TEST_F(Serve, CompletionsScorePromptsAsEvaluationsDo) {
  const json ids =
      Parse(Post("/tokenize", R"({"prompt": "348 + 275 = 623", "add_special_tokens": false})"))["tokens"];
  const json body = {{"prompt", json::array({ids})},
                     {"echo", true},
                     {"logprobs", 1},
                     {"max_tokens", 1},
                     {"temperature", 0},
                     {"seed", 1234}};
  const json answer = Parse(Post("/v1/completions", body.dump()));
  const json& logprobs = answer["choices"][0]["logprobs"];
  ASSERT_EQ(logprobs["tokens"].size(), ids.size() + 1);
  EXPECT_TRUE(logprobs["token_logprobs"][0].is_null());
  EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
  double sum = 0;
  for (size_t i = 1; i < logprobs["tokens"].size(); ++i) {
    sum += logprobs["token_logprobs"][i].get<double>();
    EXPECT_TRUE(logprobs["top_logprobs"][i].contains(logprobs["tokens"][i].get<std::string>()));
  }
  EXPECT_LT(sum, 0);
  EXPECT_THAT(answer["choices"][0]["text"].get<std::string>(), HasSubstr("348 + 275 = 623"));
  EXPECT_EQ(answer["object"], "text_completion");
  // Only the prompt: the same values, and nothing behind it.
  json scored = body;
  scored["max_tokens"] = 0;
  const json alone = Parse(Post("/v1/completions", scored.dump()));
  EXPECT_EQ(alone["choices"][0]["text"], "348 + 275 = 623");
  EXPECT_EQ(alone["choices"][0]["logprobs"]["tokens"].size(), ids.size());
  EXPECT_EQ(alone["usage"]["completion_tokens"], 0);
}

// lm-eval drops the last entry: were there none for the end of text, it would drop one of the prompt's.
TEST_F(Serve, AScoredPromptHasOneMoreEntryAlsoWhereTheTextEndsAtOnce) {
  const std::string prompt =
      "Which is greater, 606 or 73?\n606 and 73\nHundreds: 6>0\nResult: 606\n606 is larger than 73.";
  const json ids =
      Parse(Post("/tokenize", json{{"prompt", prompt}, {"add_special_tokens", false}}.dump()))["tokens"];
  const json body = {{"prompt", ids}, {"echo", true}, {"logprobs", 1}, {"max_tokens", 1}, {"temperature", 0}};
  const json answer = Parse(Post("/v1/completions", body.dump()));
  ASSERT_EQ(answer["choices"][0]["finish_reason"], "stop") << "not the end of text: ask for another prompt";
  EXPECT_EQ(answer["choices"][0]["text"], prompt);
  EXPECT_EQ(answer["choices"][0]["logprobs"]["tokens"].size(), ids.size() + 1);
}

TEST_F(Serve, CompletionsTakeSeveralPromptsAndStream) {
  const json answer =
      Parse(Post("/v1/completions", R"({"prompt": ["a", "b"], "n": 2, "max_tokens": 2, "temperature": 0})"));
  EXPECT_EQ(answer["choices"].size(), 4u);
  EXPECT_EQ(answer["choices"][0]["text"], answer["choices"][1]["text"]);
  const HttpReply reply = Post(
      "/v1/completions", R"({"prompt": "348 + 275 =", "max_tokens": 4, "temperature": 0, "stream": true})");
  const auto events = Events(reply.body);
  ASSERT_GE(events.size(), 2u);
  EXPECT_TRUE(json::parse(events[0])["choices"][0].contains("text"));
  EXPECT_EQ(events.back(), "[DONE]");
}

TEST_F(Serve, TellsAboutItself) {
  const json models = Parse(Get("/v1/models"));
  EXPECT_EQ(models["data"][0]["id"], "r1");
  EXPECT_EQ(models["data"][1]["id"], "tiny-r1");
  EXPECT_EQ(models["data"][0]["max_model_len"], 4096);
  EXPECT_EQ(Parse(Get("/props"))["total_slots"], 2);
  EXPECT_EQ(Parse(Get("/props"))["can_switch_thinking"], false) << "R1 always thinks";
  EXPECT_EQ(Parse(Get("/props"))["default_generation_settings"]["n_ctx"], 4096);
  EXPECT_EQ(Parse(Get("/plan"))["schema"], 1);
  EXPECT_EQ(Parse(Get("/v1/health"))["status"], "ok");
  EXPECT_THAT(Parse(Get("/tokenizer_info"))["eos_token"].get<std::string>(), HasSubstr("end"));
  const json tokens = Parse(Post("/tokenize", R"({"prompt": "348 apples <｜User｜>"})"))["tokens"];
  EXPECT_EQ(Parse(Post("/detokenize", json{{"tokens", tokens}}.dump()))["prompt"], "348 apples <｜User｜>");
  const std::string metrics = Get("/metrics").body;
  for (const char* name :
       {"num_requests_running", "num_requests_waiting", "prompt_tokens_total", "tokens_predicted_total",
        "time_to_first_token_seconds_bucket", "inter_token_latency_seconds_sum", "expert_hits_total",
        "nvme_bytes_total", "http_connections"}) {
    EXPECT_THAT(metrics, HasSubstr(fmt::format("\nmoraine_{}", name)));
  }
}

TEST_F(Serve, CountsWhatNobodyKnows) {
  const double before = Metric("unknown_fields_total");
  EXPECT_EQ(Post(kChat, Ask("Hi", R"("max_tokens": 1, "foo": 1, "bar": 2)")).status, 200);
  EXPECT_EQ(Metric("unknown_fields_total"), before + 2);
}

struct BadRequest {
  const char* what;
  std::string request;
  int status;
  const char* code;
};

TEST_F(Serve, RefusesWithJsonAndServesTheNext) {
  const auto post = [](const std::string& path, const std::string& body,
                       const std::string& type = "application/json") {
    return fmt::format(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n{}", path, type,
        body.size(), body);
  };
  const auto get = [](const std::string& method, const std::string& path) {
    return fmt::format("{} {} HTTP/1.1\r\nHost: localhost\r\n\r\n", method, path);
  };
  std::string big;
  for (int i = 0; i < 5000; ++i) big += " 7";
  const BadRequest cases[] = {
      {"unknown path", get("GET", "/v1/embeddings"), 404, "unknown_path"},
      {"path of a file", get("GET", "/../../etc/passwd"), 404, "unknown_path"},
      {"wrong method", get("GET", kChat), 405, "method_not_allowed"},
      {"wrong method", get("DELETE", "/v1/models"), 405, "method_not_allowed"},
      {"unknown method", get("BREW", "/health"), 405, "method_not_allowed"},
      {"form", post(kChat, "a=b", "application/x-www-form-urlencoded"), 415, "unsupported_media_type"},
      {"text", post(kChat, Ask("Hi"), "text/plain"), 415, "unsupported_media_type"},
      {"cut JSON", post(kChat, "{\"messages\": ["), 400, "invalid_json"},
      {"deep", post(kChat, std::string(100000, '[')), 400, "invalid_json"},
      {"twice", post(kChat, R"({"n": 1, "n": 1})"), 400, "invalid_json"},
      {"range", post(kChat, Ask("Hi", R"("n": 0)")), 400, "invalid_value"},
      {"unknown model", post(kChat, Ask("Hi", R"("model": "../../x")")), 404, "model_not_found"},
      {"model with a NUL", post(kChat, Ask("Hi", R"("model": "\u0000")")), 404, "model_not_found"},
      {"long model", post(kChat, Ask("Hi", "\"model\": \"" + std::string(10000, 'x') + "\"")), 404,
       "model_not_found"},
      {"prompt over the context", post(kChat, Ask(big)), 400, "context_length_exceeded"},
      {"completion over it", post("/v1/completions", "{\"prompt\": \"" + big + "\"}"), 400,
       "context_length_exceeded"},
      {"id out of range", post("/v1/completions", R"({"prompt": [5, 999999]})"), 400, "invalid_value"},
      {"empty prompt", post("/v1/completions", R"({"prompt": ""})"), 400, "empty_prompt"},
      {"no tokens", post("/detokenize", R"({"tokens": [1000000]})"), 400, "invalid_value"},
      {"no text", post("/tokenize", "{}"), 400, "missing_required_parameter"},
      {"one of two texts", post("/tokenize", R"({"prompt": "a", "content": 1})"), 400, "invalid_type"},
      {"image", post(kChat, R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})"), 400,
       "unsupported_content"},
      {"forced tool", post(kChat, Ask("Hi", R"("tool_choice": "required")")), 400, "invalid_value"},
      {"web search", post(kChat, Ask("Hi", R"("tools": [{"type": "web_search"}])")), 400,
       "unsupported_parameter"},
  };
  for (const BadRequest& bad : cases) {
    HttpClient client = server_->Client();
    client.Raw(bad.request);
    const HttpReply reply = client.Read();
    EXPECT_EQ(reply.status, bad.status) << bad.what << ": " << reply.body;
    const json error = Parse(reply)["error"];
    EXPECT_EQ(error["code"], bad.code) << bad.what << ": " << reply.body;
    EXPECT_FALSE(error["message"].get<std::string>().empty());
    EXPECT_LT(reply.body.size(), 2000u) << bad.what;
    EXPECT_EQ(reply.headers.count("x-should-retry"), 1u) << bad.what;
    EXPECT_EQ(client.Get("/health").status, 200) << bad.what;
  }
  EXPECT_THAT(Post(kChat, Ask(big)).body, AllOf(HasSubstr("4096 positions"), HasSubstr("tokens")));
}

TEST_F(Serve, OptionsAndHeadAreAnswered) {
  HttpClient client = server_->Client();
  client.Raw("OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n\r\n");
  const HttpReply options = client.Read();
  EXPECT_EQ(options.status, 204);
  EXPECT_EQ(options.headers.at("allow"), "POST, OPTIONS");
  client.Raw("HEAD /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(client.Read(60, true).status, 200);
  EXPECT_EQ(client.Get("/health").status, 200);
}

TEST_F(Serve, AClientThatLeavesFreesItsPlaceAndTroublesNobody) {
  const std::string endless = R"("ignore_eos": true, "max_tokens": 3900)";
  for (const char* mode : {"\"stream\": true", "\"stream\": false"}) {
    const double cancelled = Metric("requests_cancelled_total");
    // Both places taken and one waits.
    HttpClient first = server_->Client();
    HttpClient second = server_->Client();
    HttpClient third = server_->Client();
    for (HttpClient* client : {&first, &second, &third})
      client->SendPost(kChat, Ask("Hi", endless + ", " + mode));
    EXPECT_TRUE(Eventually(
        [] { return Metric("num_requests_running") == 2 && Metric("num_requests_waiting") == 1; }));
    third.Close();
    EXPECT_TRUE(Eventually([] { return Metric("num_requests_waiting") == 0; }));
    EXPECT_EQ(Metric("num_requests_running"), 2);
    first.Close();
    second.Close();
    EXPECT_TRUE(Eventually([] { return Metric("num_requests_running") == 0; }));
    EXPECT_TRUE(Eventually([&] { return Metric("requests_cancelled_total") == cancelled + 3; }));
    EXPECT_EQ(Post(kChat, Ask("What is 5 + 4?")).status, 200);
  }
}

TEST_F(Serve, ManyAtOnceGetTheSameAnswerEach) {
  std::vector<HttpClient> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(server_->Client());
  for (HttpClient& client : clients) client.SendPost(kChat, Ask("What is 348 + 275?"));
  for (HttpClient& client : clients) {
    const json answer = Parse(client.Read());
    EXPECT_THAT(answer["choices"][0]["message"]["content"].get<std::string>(), HasSubstr("623"));
  }
}

TEST(ServeProcess, TheSocketIsPrivateAndGoesWithTheServer) {
  ServedProcess server(kTiny);
  ASSERT_EQ(server.Client().Get("/health").status, 200) << server.said();
  const std::string path = server.address().substr(5);
  struct stat found = {};
  ASSERT_EQ(::stat(path.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777u, 0600u);
  const ProcessResult second = RunMoraine({"serve", kTiny, "--uds", path});
  EXPECT_EQ(second.exit_code, 2);
  EXPECT_THAT(second.err, HasSubstr("a server listens there already"));
  EXPECT_EQ(server.Client().Get("/health").status, 200);
  server.Signal(SIGTERM);
  EXPECT_EQ(server.Wait(), 0) << server.said();
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(ServeProcess, AKilledServersSocketIsReplaced) {
  const TempFolder folder;
  const std::string path = folder / "s.sock";
  {
    ServedProcess killed(kTiny, {.arguments = {"--uds", path}});
    ASSERT_EQ(HttpClient("unix:" + path).Get("/health").status, 200) << killed.said();
    killed.Signal(SIGKILL);
    EXPECT_EQ(killed.Wait(), -SIGKILL);
  }
  EXPECT_TRUE(std::filesystem::exists(path));
  ServedProcess next(kTiny, {.arguments = {"--uds", path}});
  EXPECT_EQ(HttpClient("unix:" + path).Get("/health").status, 200) << next.said();
}

TEST(ServeProcess, SigtermLetsAnswersEndAndCutsThoseThatDoNot) {
  ServedProcess server(kTiny, {.arguments = {"--grace", "0.3", "--ctx", "100000"}});
  HttpClient endless = server.Client();
  endless.SendPost(kChat, Ask("Hi", R"("ignore_eos": true, "max_tokens": 90000, "stream": true)"));
  ASSERT_TRUE(endless.ReadUntil("data: ")) << server.said();
  HttpClient idle = server.Client();
  ASSERT_EQ(idle.Get("/health").status, 200);
  server.Signal(SIGTERM);
  // Never a silent end.
  const HttpReply reply = endless.Read();
  EXPECT_THAT(reply.body, AllOf(HasSubstr("data: {\"error\""), HasSubstr("data: [DONE]\n\n")));
  EXPECT_TRUE(idle.ReadsEnd());
  EXPECT_EQ(server.Wait(), 0) << server.said();
}

TEST(ServeProcess, WhileStoppingItTakesNothingNewAndASecondSignalEndsIt) {
  ServedProcess server(kTiny, {.arguments = {"--grace", "600", "--ctx", "160000"}});
  HttpClient endless = server.Client();
  endless.SendPost(kChat, Ask("Hi", R"("ignore_eos": true, "max_tokens": 150000, "stream": true)"));
  ASSERT_TRUE(endless.ReadUntil("data: ")) << server.said();
  server.Signal(SIGTERM);
  HttpReply refused;
  for (int i = 0; i < 1000 && refused.status != 503; ++i) {
    refused = server.Client().Post(kChat, Ask("Hi", "\"max_tokens\": 1"));
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.count("retry-after"), 1u);
  EXPECT_EQ(server.Client().Get("/health").status, 503);
  server.Signal(SIGTERM);
  EXPECT_EQ(server.Wait(), 130);
}

TEST(ServeProcess, AKeyGuardsTheModelAndIsReadFromAFile) {
  const TempFolder folder;
  WriteFile(folder / "key", "sesame-open\n");
  ASSERT_EQ(::chmod((folder / "key").c_str(), 0600), 0);
  ServedProcess server(kTiny, {.arguments = {"--api-key-file", folder / "key"}, .tcp = true});
  ASSERT_EQ(server.Client().Get("/health").status, 200) << server.said();
  for (const char* path : {"/v1/models", "/metrics", "/props", "/plan", "/nowhere"})
    EXPECT_EQ(server.Client().Get(path).status, 401) << path;
  EXPECT_EQ(server.Client().Post(kChat, Ask("Hi")).status, 401);
  EXPECT_EQ(server.Client().Get("/v1/models", "Authorization: Bearer sesame-open\r\n").status, 200);
  EXPECT_THAT(server.said(), Not(HasSubstr("sesame")));
}

// The shipped model under V3.1's template, which its weights know nothing of: what is tested is around them.
TEST(ServeProcess, V31SwitchesThinkingAndWritesCallsItsOwnWay) {
  const TempFolder folder;
  for (const auto& file : std::filesystem::directory_iterator(kTiny)) {
    if (file.is_regular_file()) std::filesystem::copy(file.path(), folder / file.path().filename().string());
  }
  const std::string jinja = "/tests/text/golden/templates/deepseek-v3.1-published.jinja";
  WriteFile(folder / "chat_template.jinja", ReadFile(MORAINE_SOURCE_DIR + jinja));
  ServedProcess server(folder / "", {.arguments = {"--ctx", "2048"}});
  const auto ask = [&](const std::string& more) {
    return Parse(server.Client().Post(kChat, Ask("What is 3 + 4?", "\"max_tokens\": 30" + more)));
  };
  EXPECT_EQ(Parse(server.Client().Get("/props"))["can_switch_thinking"], true) << server.said();
  const auto thinks = [&](const std::string& more) {
    return ask(more)["choices"][0]["message"].contains("reasoning");
  };
  EXPECT_FALSE(thinks(""));
  EXPECT_TRUE(thinks(R"(, "reasoning_effort": "high")"));
  EXPECT_FALSE(thinks(R"(, "reasoning_effort": "none")"));
  EXPECT_TRUE(thinks(R"(, "thinking": {"type": "enabled"})"));
  EXPECT_FALSE(thinks(R"(, "thinking": true, "chat_template_kwargs": {"thinking": false})"));
  EXPECT_TRUE(thinks(R"(, "chat_template_kwargs": {"enable_thinking": true})"));
  const json called = Parse(server.Client().Post(kChat, Ask("What is 3 + 4?", kForced)));
  const json call = called["choices"][0]["message"]["tool_calls"][0];
  EXPECT_EQ(call["function"]["name"], "add");
}

TEST(ServeProcess, AFullQueueIsSaidAndNobodyWaitsForNothing) {
  ServedProcess server(kTiny, {.arguments = {"--slots", "1", "--queue", "1", "--ctx", "100000"}});
  const std::string endless = Ask("Hi", R"("ignore_eos": true, "max_tokens": 90000, "stream": true)");
  HttpClient running = server.Client();
  running.SendPost(kChat, endless);
  ASSERT_TRUE(running.ReadUntil("data: ")) << server.said();
  HttpClient waiting = server.Client();
  waiting.SendPost(kChat, endless);
  ASSERT_TRUE(waiting.ReadUntil("200 OK"));
  for (int i = 0; i < 100; ++i) {
    const HttpReply refused = server.Client().Post(kChat, Ask("Hi"));
    EXPECT_EQ(refused.status, 429);
    EXPECT_EQ(refused.headers.count("retry-after"), 1u);
  }
  // Of several choices none is left behind when the last does not fit.
  running.Close();
  EXPECT_TRUE(waiting.ReadUntil("data: "));
  EXPECT_EQ(server.Client().Post(kChat, Ask("Hi", "\"n\": 3")).status, 429);
  EXPECT_THAT(server.Client().Get("/metrics").body, HasSubstr("\nmoraine_num_requests_running 1\n"));
  waiting.Close();
  HttpReply last;
  for (int i = 0; i < 1000 && last.status != 200; ++i)
    last = server.Client().Post(kChat, Ask("Hi", "\"max_tokens\": 1"));
  EXPECT_EQ(last.status, 200);
}

TEST(ServeProcess, VariablesStandForFlags) {
  const TempFolder folder;
  const std::string path = folder / "v.sock";
  ServedProcess server(kTiny, {.environment = {"MORAINE_UDS=" + path, "MORAINE_SLOTS=3", "MORAINE_ALIAS=vee",
                                               "MORAINE_API_KEY=k1"}});
  EXPECT_EQ(HttpClient("unix:" + path).Get("/props").status, 401) << server.said();
  HttpClient client("unix:" + path);
  const std::string key = "Authorization: Bearer k1\r\n";
  EXPECT_EQ(Parse(client.Get("/props", key))["total_slots"], 3);
  EXPECT_EQ(Parse(client.Get("/v1/models", key))["data"][0]["id"], "vee");
}

// A socket as a service manager opens it, before the server is there.
int Bound(const std::string& path, int type) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  const int fd = ::socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
  EXPECT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  return fd;
}

TEST(ServeProcess, TellsTheServiceManagerAndTakesItsSocket) {
  const TempFolder folder;
  const Handle<FdTraits> notices(Bound(folder / "notify", SOCK_DGRAM));
  const Handle<FdTraits> listener(Bound(folder / "unit.sock", SOCK_STREAM));
  ASSERT_EQ(::listen(listener.get(), 8), 0);
  // Asked before it starts: the request waits in the socket.
  HttpClient early("unix:" + (folder / "unit.sock"));
  early.Raw("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n");
  ServedProcess server(kTiny, {.environment = {"NOTIFY_SOCKET=" + (folder / "notify")}, .prepare = [&] {
                                 ::dup2(listener.get(), 3);
                                 ::setenv("LISTEN_FDS", "1", 1);
                                 ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
                               }});
  EXPECT_EQ(server.address(), "unix:" + (folder / "unit.sock")) << server.said();
  EXPECT_EQ(early.Read().status, 200);
  const auto next = [&] {
    pollfd wait = {notices.get(), POLLIN, 0};
    char text[512];
    const ssize_t got = ::poll(&wait, 1, 30000) == 1 ? ::recv(notices.get(), text, sizeof text, 0) : 0;
    return std::string(text, static_cast<size_t>(std::max<ssize_t>(got, 0)));
  };
  std::string notice = next();
  EXPECT_THAT(notice, HasSubstr("STATUS=loading"));
  while (notice.rfind("STATUS=loading", 0) == 0) notice = next();
  EXPECT_THAT(notice, HasSubstr("READY=1"));
  server.Signal(SIGTERM);
  EXPECT_THAT(next(), HasSubstr("STOPPING=1"));
  EXPECT_EQ(server.Wait(), 0);
  EXPECT_TRUE(std::filesystem::exists(folder / "unit.sock")) << "a socket that is the manager's was removed";
}

TEST(ServeProcess, RefusesWithOneLineAndItsExitCode) {
  const TempFolder folder;
  WriteFile(folder / "file", "x");
  WriteFile(folder / "empty", "\n");
  struct Refused {
    std::vector<std::string> arguments;
    int exit_code;
    const char* message;
  };
  const Refused cases[] = {
      {{kTiny, "--listen", "nowhere"}, 2, "expected unix:PATH or HOST:PORT"},
      {{kTiny, "--listen", "0.0.0.0:0"}, 2, "needs an API key"},
      {{kTiny, "--uds", folder / "file"}, 2, "is no socket"},
      {{kTiny, "--uds", folder / "s", "--api-key-file", folder / "empty"}, 2, "there is no key in it"},
      {{kTiny, "--uds", folder / "s", "--api-key-file", folder / "missing"}, 2, "missing"},
      {{kTiny, "--port", "70000"}, 2, "--port"},
      {{folder / "no-model", "--uds", folder / "s"}, 3, "no-model"},
      {{kTiny, "--uds", folder / "s", "--ram", "1kB"}, 1, "does not fit"},
      {{kTiny, "--uds", folder / "s", "--slots", "0"}, 2, "--slots"},
  };
  for (const Refused& refused : cases) {
    std::vector<std::string> arguments = refused.arguments;
    arguments.insert(arguments.begin(), "serve");
    const ProcessResult result = RunMoraine(arguments);
    EXPECT_EQ(result.exit_code, refused.exit_code) << refused.message << "\n" << result.err;
    EXPECT_THAT(result.out + result.err, HasSubstr(refused.message));
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "s")) << "a server that could not start left its socket";
}

}  // namespace
}  // namespace moraine::test
