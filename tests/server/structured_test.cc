// Answers held to a form, over HTTP: the shipped model has never seen JSON, so what it says is the mask's
// doing.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/support/served_process.h"

namespace moraine::test {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

const std::string kTiny = std::string(MORAINE_SOURCE_DIR) + "/models/tiny-r1";
const std::string kChat = "/v1/chat/completions";

json Parse(const std::string& text) {
  json parsed = json::parse(text, nullptr, false);
  EXPECT_FALSE(parsed.is_discarded()) << text;
  return parsed;
}

class Structured : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server_ = new ServedProcess(kTiny, {.arguments = {"--slots", "2", "--ctx", "4096"}});
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override { ASSERT_EQ(server_->Client().Get("/health").status, 200) << server_->said(); }

  static json Request(const json& more) {
    json request = {{"messages", {{{"role", "user"}, {"content", "What is 348 + 275?"}}}},
                    {"temperature", 1},
                    {"seed", 11},
                    {"max_tokens", 1500}};
    request.update(more);
    return request;
  }
  static json Schema(const std::string& schema) {
    return {{"response_format",
             {{"type", "json_schema"},
              {"json_schema", {{"name", "answer"}, {"strict", true}, {"schema", Parse(schema)}}}}}};
  }
  static HttpReply Post(const json& request, const std::string& path = kChat) {
    return server_->Client().Post(path, request.dump());
  }

  static ServedProcess* server_;
};
ServedProcess* Structured::server_ = nullptr;

// Names are in the order of the alphabet, in which json keeps them.
const std::string kSum = R"({"type": "object", "properties": {
    "answer": {"type": "integer"}, "kind": {"enum": ["sum", "product"]},
    "steps": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "string", "minLength": 1, "maxLength": 12}},
    "sure": {"type": "boolean"}},
    "required": ["answer", "kind", "steps", "sure"]})";

void CheckSum(const std::string& content) {
  const json answer = Parse(content);
  ASSERT_EQ(answer.size(), 4u) << content;
  EXPECT_TRUE(answer["answer"].is_number_integer()) << content;
  EXPECT_TRUE(answer["kind"] == "sum" || answer["kind"] == "product") << content;
  EXPECT_TRUE(answer["sure"].is_boolean()) << content;
  ASSERT_TRUE(answer["steps"].is_array()) << content;
  EXPECT_TRUE(!answer["steps"].empty() && answer["steps"].size() <= 3) << content;
}

TEST_F(Structured, ASchemaIsKeptBehindFreeReasoning) {
  for (const double temperature : {0.0, 1.0, 5.0}) {
    json request = Request(Schema(kSum));
    request["temperature"] = temperature;
    request["n"] = 4;
    request["top_p"] = 1;
    const json answer = Parse(Post(request).body);
    for (const json& choice : answer["choices"]) {
      if (choice["finish_reason"] == "length") continue;  // hot reasoning may never end
      EXPECT_EQ(choice["finish_reason"], "stop");
      CheckSum(choice["message"]["content"]);
    }
    if (temperature > 0) continue;
    const json& message = answer["choices"][0]["message"];
    EXPECT_EQ(answer["choices"][0]["finish_reason"], "stop");
    EXPECT_THAT(message["reasoning_content"].get<std::string>(), HasSubstr("8+5=13")) << "reasoning is free";
  }
}

TEST_F(Structured, AStreamIsHeldTheSame) {
  json request = Request(Schema(kSum));
  request["stream"] = true;
  request["temperature"] = 0;
  const std::string body = Post(request).body;
  std::string content;
  for (size_t at = 0; (at = body.find("data: {", at)) != body.npos; ++at) {
    const json chunk = Parse(body.substr(at + 6, body.find("\n\n", at) - at - 6));
    content += chunk["choices"][0]["delta"].value("content", "");
  }
  CheckSum(content);
}

TEST_F(Structured, AnyObjectIsOne) {
  int whole = 0;
  for (int seed = 0; seed < 12; ++seed) {
    json request = Request({{"response_format", {{"type", "json_object"}}}});
    request["seed"] = seed;
    request["max_tokens"] = 300;
    const json choice = Parse(Post(request).body)["choices"][0];
    if (choice["finish_reason"] == "length") continue;
    EXPECT_TRUE(Parse(choice["message"]["content"]).is_object());
    ++whole;
  }
  EXPECT_GT(whole, 0);
}

TEST_F(Structured, CompletionsAreHeldFromTheirFirstToken) {
  json request = Schema(R"({"type": "array", "items": {"type": "boolean"}, "minItems": 3, "maxItems": 3})");
  request.update({{"prompt", "348 + 275 ="}, {"max_tokens", 60}, {"temperature", 0}});
  const json choice = Parse(Post(request, "/v1/completions").body)["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_EQ(Parse(choice["text"]).size(), 3u);
}

TEST_F(Structured, WhatIsCutSaysSo) {
  json request = Request(Schema(kSum));
  request["temperature"] = 0;
  request["max_tokens"] = 60;
  EXPECT_EQ(Parse(Post(request).body)["choices"][0]["finish_reason"], "length");
}

TEST_F(Structured, LogprobsStayTheModelsOwn) {
  json request = Schema(R"({"const": "zzz"})");
  request.update({{"prompt", "348 + 275 ="}, {"max_tokens", 20}, {"temperature", 0}, {"logprobs", 1}});
  const json choice = Parse(Post(request, "/v1/completions").body)["choices"][0];
  EXPECT_THAT(choice["text"].get<std::string>(), HasSubstr("\"zzz\""));
  double least = 0;
  for (const json& logprob : choice["logprobs"]["token_logprobs"])
    least = std::min(least, logprob.get<double>());
  EXPECT_LT(least, -1) << "the model would not have said it";
}

TEST_F(Structured, ASchemaThatCannotBeKeptIsRefused) {
  const HttpReply reply = Post(
      Request(Schema(R"({"type": "object", "properties": {"a": {"type": "string", "pattern": "(a+)+b"}}})")));
  EXPECT_EQ(reply.status, 400);
  const json error = Parse(reply.body)["error"];
  EXPECT_EQ(error["param"], "response_format.json_schema.schema");
  EXPECT_THAT(error["message"].get<std::string>(), AllOf(HasSubstr("/properties/a"), HasSubstr("pattern")));
}

TEST_F(Structured, BiasMovesChoicesAndIdsAreOfTheVocabulary) {
  const json ids = Parse(
      server_->Client().Post("/tokenize", R"({"prompt": "7", "add_special_tokens": false})").body)["tokens"];
  json request = {{"prompt", "348 + 275 ="}, {"max_tokens", 5}, {"temperature", 0}};
  request["logit_bias"] = {{std::to_string(ids[0].get<int>()), 100}};
  EXPECT_EQ(Parse(Post(request, "/v1/completions").body)["choices"][0]["text"], "77777");
  request["logit_bias"] = {{"100000", 1}};
  const HttpReply reply = Post(request, "/v1/completions");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(Parse(reply.body)["error"]["param"], "logit_bias");
}

}  // namespace
}  // namespace moraine::test
