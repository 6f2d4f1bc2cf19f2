// What clients send, well and badly: every field's types and ranges, and what a 400 names.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <chrono>

#include "runtime/server/openai/chat_request.h"
#include "runtime/server/openai/completion_request.h"

namespace moraine::test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::string kMessages = R"("messages": [{"role": "user", "content": "Hi"}])";

ApiResult<ChatRequest> Chat(const std::string& more) {
  return ParseChatRequest("{" + kMessages + (more.empty() ? "" : ", " + more) + "}");
}

TEST(ChatRequest, HasAllThatClientsSend) {
  const auto parsed = Chat(R"("model": "m", "stream": true, "stream_options": {"include_usage": true,
      "continuous_usage_stats": false}, "max_tokens": 5, "max_completion_tokens": 7, "temperature": 0.5, "top_p": 0.9,
      "n": 2, "stop": ["a", "b"], "seed": 18446744073709551615, "logprobs": true, "top_logprobs": 3,
      "presence_penalty": 1, "frequency_penalty": -1, "top_k": -1, "min_p": 0.1, "repetition_penalty": 1.1,
      "min_tokens": 4, "ignore_eos": true, "cache_prompt": false, "return_token_ids": true, "user": "u",
      "reasoning_effort": "high", "metadata": {}, "store": false, "service_tier": "auto", "prompt_cache_key": "k",
      "tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "auto", "parallel_tool_calls": true, "logit_bias": {},
      "response_format": {"type": "text"}, "chat_template_kwargs": {"thinking": true})");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  const GenerationFields& fields = parsed->generation;
  EXPECT_EQ(fields.model, "m");
  EXPECT_TRUE(fields.stream && fields.include_usage && fields.ignore_eos && fields.return_token_ids);
  EXPECT_FALSE(fields.cache_prompt);
  EXPECT_EQ(fields.max_tokens, 7);
  EXPECT_EQ(fields.min_tokens, 4);
  EXPECT_EQ(fields.n, 2);
  EXPECT_EQ(fields.temperature, 0.5f);
  EXPECT_EQ(fields.top_k, 0);
  EXPECT_THAT(fields.stop, ElementsAre("a", "b"));
  EXPECT_EQ(fields.seed, UINT64_MAX);
  EXPECT_EQ(fields.top_logprobs, 3);
  EXPECT_EQ(fields.user, "u");
  EXPECT_TRUE(parsed->thinking);
  EXPECT_EQ(fields.unknown_fields, 0);
}

TEST(ChatRequest, NullIsAbsentAndWhatNobodyKnowsIsCounted) {
  const auto parsed =
      Chat(R"("max_tokens": null, "stop": null, "n": null, "tools": null, "response_format": null,
      "logprobs": null, "stream_options": null, "foo": 1, "bar": {"deep": []}, "baz": null)");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  EXPECT_EQ(parsed->generation.unknown_fields, 3);
  EXPECT_EQ(parsed->generation.n, 1);
  EXPECT_EQ(parsed->generation.max_tokens, 0);
  EXPECT_EQ(parsed->generation.top_logprobs, -1);
  EXPECT_FALSE(parsed->generation.seed.has_value());
}

TEST(ChatRequest, ReadsEveryFormOfAMessage) {
  const auto parsed = ParseChatRequest(R"({"messages": [
      {"role": "developer", "content": "Be brief."},
      {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "x"},
      {"role": "assistant", "content": null, "reasoning_content": "r", "tool_calls": [{"id": "1", "type": "function",
          "function": {"name": "f", "arguments": "{\"a\": 1}"}}, {"function": {"name": "g", "arguments": {"b": 2}}}]},
      {"role": "tool", "tool_call_id": "1", "content": "42"},
      {"role": "assistant", "reasoning": "s", "content": null}]})");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  const auto& messages = parsed->messages;
  ASSERT_EQ(messages.size(), 5u);
  EXPECT_EQ(messages[0].role, "system");
  EXPECT_EQ(messages[1].content, "ab");
  ASSERT_EQ(messages[2].tool_calls->size(), 2u);
  EXPECT_EQ((*messages[2].tool_calls)[1].arguments, R"({"b":2})");
  EXPECT_EQ(messages[2].reasoning, "r");
  EXPECT_FALSE(messages[2].content.has_value());
  EXPECT_EQ(messages[4].reasoning, "s");
  EXPECT_EQ(messages[4].content, "");
}

TEST(ChatRequest, ThousandsOfToolTurnsTakeLinearTime) {
  std::string body = R"({"messages": [{"role": "user", "content": "go"})";
  for (int i = 0; i < 4096; ++i) {
    body +=
        R"(, {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function", "function":
        {"name": "f", "arguments": "{}"}}]}, {"role": "tool", "content": "ok"})";
  }
  const auto parsed = ParseChatRequest(body + "]}");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  EXPECT_EQ(parsed->messages.size(), 8193u);
}

const std::string kTwoTools = R"("tools": [{"type": "function", "function": {"name": "f", "description": "d",
    "parameters": {"type": "object", "properties": {"z": {"type": "integer"}, "a": {}}}, "strict": true}},
    {"type": "function", "function": {"name": "g"}}])";

TEST(ChatRequest, AWholeNumberMayHaveAPoint) {
  EXPECT_EQ(Chat(R"("seed": -3.0)")->generation.seed, static_cast<uint64_t>(-3));
  EXPECT_EQ(Chat(R"("n": 2.0)")->generation.n, 2);
  EXPECT_FALSE(Chat(R"("seed": 1e30)").has_value());
  EXPECT_TRUE(Chat(R"("seed": -9223372036854775808)").has_value());
  EXPECT_FALSE(Chat(R"("seed": -9223372036854775809)").has_value());
  const auto ids = ParseCompletionRequest(R"({"prompt": [5.0, 6]})");
  EXPECT_EQ(std::get<std::vector<int32_t>>(ids->prompts[0]), (std::vector<int32_t>{5, 6}));
}

TEST(ChatRequest, ReadsToolsInTheOrderTheyAreSpelled) {
  const auto parsed = Chat(kTwoTools + R"(, "parallel_tool_calls": false)");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  const ToolFields& tools = parsed->tools;
  ASSERT_EQ(tools.tools.size(), 2u);
  EXPECT_EQ(tools.tools[0].name, "f");
  EXPECT_EQ(tools.tools[0].description, "d");
  EXPECT_EQ(tools.tools[0].parameters,
            R"({"type": "object", "properties": {"z": {"type": "integer"}, "a": {}}})");
  EXPECT_THAT(tools.tools[1].parameters, HasSubstr("object"));
  EXPECT_FALSE(tools.begun_call.has_value());
  EXPECT_FALSE(tools.parallel);
  EXPECT_TRUE(Chat(R"("tools": [])")->tools.tools.empty());
}

TEST(ChatRequest, ManyMembersBesideToolsTakeLinearTime) {
  std::string body =
      "{" + kMessages + R"(, "tools": [{"type": "function", "function": {"name": "f", "parameters": {)";
  for (int i = 0; i < 200'000; ++i) body += fmt::format(R"("k{}": 1, )", i);
  body += R"("last": 1.50}}}])";
  for (int i = 0; i < 200'000; ++i) body += fmt::format(R"(, "m{}": 1)", i);
  const auto parsed = ParseChatRequest(body + "}");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  EXPECT_TRUE(parsed->tools.tools[0].parameters.ends_with(R"("last": 1.50})"));
}

TEST(ChatRequest, HonoursWhatToolChoiceDemands) {
  const auto choice = [](const std::string& tools, const std::string& text) {
    return Chat(tools + ", \"tool_choice\": " + text)->tools;
  };
  const std::string one = R"("tools": [{"type": "function", "function": {"name": "f"}}])";
  EXPECT_TRUE(choice(kTwoTools, "\"none\"").tools.empty());
  EXPECT_EQ(choice(kTwoTools, "\"auto\"").begun_call, std::nullopt);
  EXPECT_EQ(choice(kTwoTools, "\"required\"").begun_call, "");
  EXPECT_EQ(choice(one, "\"required\"").begun_call, "f");
  EXPECT_EQ(choice(kTwoTools, R"({"type": "function", "function": {"name": "g"}})").begun_call, "g");
  EXPECT_FALSE(Chat(kTwoTools + R"(, "tool_choice": {"type": "function", "function": {"name": "h"}})"));
  EXPECT_FALSE(Chat(kTwoTools + R"(, "tool_choice": {"type": "allowed_tools"})"));
}

TEST(ChatRequest, ResultsComeInTheOrderOfTheirCalls) {
  const std::string calls = R"({"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f"}},
      {"id": "b", "function": {"name": "f"}}]})";
  const auto results = [&](const char* first, const char* second) {
    const auto parsed = ParseChatRequest(fmt::format(
        R"({{"messages": [{}, {{"role": "tool", "tool_call_id": "{}", "content": "1"}},
        {{"role": "tool", "tool_call_id": "{}", "content": "2"}}, {{"role": "user", "content": "u"}}]}})",
        calls, first, second));
    return *parsed->messages.at(1).content + *parsed->messages.at(2).content +
           *parsed->messages.at(3).content;
  };
  EXPECT_EQ(results("a", "b"), "12u");
  EXPECT_EQ(results("b", "a"), "21u");
  EXPECT_EQ(results("b", "other"), "12u") << "a stranger's result leaves all as they are";
}

struct BadField {
  const char* more;
  const char* param;
};

TEST(ChatRequest, RefusesWithTheFieldsName) {
  const BadField cases[] = {
      {R"("n": 0)", "n"},
      {R"("n": -1)", "n"},
      {R"("n": 1000000)", "n"},
      {R"("n": 1.5)", "n"},
      {R"("n": "2")", "n"},
      {R"("max_tokens": 0)", "max_tokens"},
      {R"("max_tokens": -1)", "max_tokens"},
      {R"("max_tokens": 2147483648)", "max_tokens"},
      {R"("max_tokens": 18446744073709551615)", "max_tokens"},
      {R"("max_completion_tokens": true)", "max_completion_tokens"},
      {R"("temperature": -1)", "temperature"},
      {R"("temperature": 1e9)", "temperature"},
      {R"("temperature": "hot")", "temperature"},
      {R"("top_p": 0)", "top_p"},
      {R"("top_p": 2)", "top_p"},
      {R"("min_p": 1)", "min_p"},
      {R"("top_k": -2)", "top_k"},
      {R"("repetition_penalty": 0)", "repetition_penalty"},
      {R"("presence_penalty": 3)", "presence_penalty"},
      {R"("top_logprobs": 99, "logprobs": true)", "top_logprobs"},
      {R"("top_logprobs": 3)", "top_logprobs"},
      {R"("logprobs": 5)", "logprobs"},
      {R"("stop": "")", "stop"},
      {R"("stop": [""])", "stop"},
      {R"("stop": [1])", "stop"},
      {R"("stop": {})", "stop"},
      {R"("seed": 1.5)", "seed"},
      {R"("seed": 18446744073709551616)", "seed"},
      {R"("seed": "1")", "seed"},
      {R"("stream": "yes")", "stream"},
      {R"("stream_options": 1)", "stream_options"},
      {R"("logit_bias": {"5": 101})", "logit_bias"},
      {R"("logit_bias": {"5": "1"})", "logit_bias"},
      {R"("logit_bias": {"05": 1})", "logit_bias"},
      {R"("logit_bias": {"-1": 1})", "logit_bias"},
      {R"("logit_bias": {"4294967296": 1})", "logit_bias"},
      {R"("logit_bias": {"the": 1})", "logit_bias"},
      {R"("logit_bias": [5])", "logit_bias"},
      {R"("tool_choice": "required")", "tool_choice"},
      {R"("tool_choice": {"type": "function", "function": {"name": "f"}})", "tool_choice"},
      {R"("tools": {})", "tools"},
      {R"("tools": [3])", "tools[0]"},
      {R"("tools": [{"type": "function"}])", "tools[0]"},
      {R"("tools": [{"type": "custom", "custom": {"name": "f"}}])", "tools[0].type"},
      {R"("tools": [{"type": "function", "function": {"name": "a \"b\""}}])", "tools[0].function.name"},
      {R"("tools": [{"type": "function", "function": {"name": "f", "parameters": []}}])",
       "tools[0].function.parameters"},
      {R"("tools": [{"type": "function", "function": {"name": "f"}}, {"type": "function", "function": {"name": "f"}}])",
       "tools[1]"},
      {R"("tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "any")", "tool_choice"},
      {R"("parallel_tool_calls": 1)", "parallel_tool_calls"},
      {R"("response_format": {"type": "grammar"})", "response_format.type"},
      {R"("response_format": {"type": "json_schema"})", "response_format.json_schema.schema"},
      {R"("response_format": {"type": "json_schema", "json_schema": []})", "response_format.json_schema"},
      {R"("response_format": {"type": "json_schema", "json_schema": {"strict": 1, "schema": {}}})",
       "response_format.json_schema"},
      {R"("tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required", "response_format": {"type": "json_object"})",
       "response_format"},
      {R"("response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}})",
       "response_format.json_schema.schema"},
      {R"("response_format": "json")", "response_format"},
      {R"("thinking": 3)", "thinking"},
      {R"("chat_template_kwargs": [])", "chat_template_kwargs"},
      {R"("model": ["m"])", "model"},
  };
  for (const BadField& bad : cases) {
    const auto parsed = Chat(bad.more);
    ASSERT_FALSE(parsed.has_value()) << bad.more;
    EXPECT_EQ(parsed.error().status, 400) << bad.more;
    EXPECT_EQ(parsed.error().param, bad.param) << bad.more;
    EXPECT_THAT(parsed.error().message, HasSubstr(bad.param)) << bad.more;
    EXPECT_NE(parsed.error().code, "") << bad.more;
  }
  std::string stops = R"("stop": ["x")";
  for (int i = 0; i < 10000; ++i) stops += R"(,"x")";
  EXPECT_EQ(Chat(stops + "]").error().param, "stop");
  EXPECT_EQ(Chat(R"("stop": ")" + std::string(1001, 'x') + "\"").error().param, "stop");
}

TEST(ChatRequest, AFormIsReadInTheOrderOfItsMembers) {
  EXPECT_EQ(Chat(R"("response_format": {"type": "text"})")->generation.form, nullptr);
  EXPECT_NE(Chat(R"("response_format": {"type": "json_object"})")->generation.form, nullptr);
  const auto parsed = Chat(R"("metadata": {"response_format": {"json_schema": {"schema": {"type": "no"}}}},
      "response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema":
      {"type": "object", "properties": {"why": {"type": "string"}, "answer": {"type": "integer"}}}}})");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  const Grammar& form = *parsed->generation.form;
  const auto& object = std::get<ObjectShape>(form.shapes[form.values[form.root].shapes.at(0)].of);
  ASSERT_EQ(object.properties.size(), 2u);
  EXPECT_EQ(object.properties[0].name, "why");
  EXPECT_EQ(object.properties[1].name, "answer");
  EXPECT_FALSE(object.other.has_value()) << "strict";
}

TEST(ChatRequest, AFormThatCannotBeKeptNamesPlaceAndKeyword) {
  const auto error = Chat(R"("response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema":
      {"type": "object", "properties": {"when": {"type": "string", "format": "date"}}}}})")
                         .error();
  EXPECT_EQ(error.code, "unsupported_schema");
  EXPECT_THAT(error.message, AllOf(HasSubstr("at /properties/when"), HasSubstr("\"format\"")));
  // Deep, wide and endless ones are refused as fast as others.
  std::string deep;
  for (int i = 0; i < 10000; ++i) deep += R"({"items":)";
  std::string wide = "0";
  for (int i = 1; i < 300000; ++i) wide += fmt::format(",{}", i);
  for (const std::string& schema : {deep + "1" + std::string(10000, '}'), R"({"enum": [)" + wide + "]}"}) {
    const auto refused =
        Chat(R"("response_format": {"type": "json_schema", "json_schema": {"schema": )" + schema + "}}");
    ASSERT_FALSE(refused.has_value());
    EXPECT_EQ(refused.error().status, 400);
  }
}

TEST(ChatRequest, BiasesAreOfTokens) {
  const auto parsed = Chat(R"("logit_bias": {"0": -100, "128000": 0.5})");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  EXPECT_THAT(parsed->generation.logit_bias, ElementsAre(std::pair(0, -100.f), std::pair(128000, 0.5f)));
  std::string many = "\"0\":1";
  for (int i = 1; i <= 1024; ++i) many += fmt::format(",\"{}\":1", i);
  EXPECT_EQ(Chat("\"logit_bias\": {" + many + "}").error().param, "logit_bias");
}

TEST(ChatRequest, RefusesMessagesWithTheirPlace) {
  const BadField cases[] = {
      {R"({})", "messages"},
      {R"({"messages": null})", "messages"},
      {R"({"messages": []})", "messages"},
      {R"({"messages": "Hi"})", "messages"},
      {R"({"messages": ["Hi"]})", "messages[0]"},
      {R"({"messages": [{"content": "x"}]})", "messages[0].role"},
      {R"({"messages": [{"role": "robot", "content": "x"}]})", "messages[0].role"},
      {R"({"messages": [{"role": "user"}]})", "messages[0].content"},
      {R"({"messages": [{"role": "user", "content": null}]})", "messages[0].content"},
      {R"({"messages": [{"role": "user", "content": 5}]})", "messages[0].content"},
      {R"({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]})",
       "messages[0].content[0]"},
      {R"({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [{}]}]})",
       "messages[1].tool_calls[0]"},
      {R"({"messages": [{"role": "assistant", "tool_calls": 3}]})", "messages[0].tool_calls"},
      {R"({"messages": [{"role": "assistant", "reasoning_content": "r", "reasoning": 3}]})",
       "messages[0].reasoning"},
  };
  for (const BadField& bad : cases) {
    const auto parsed = ParseChatRequest(bad.more);
    ASSERT_FALSE(parsed.has_value()) << bad.more;
    EXPECT_EQ(parsed.error().param, bad.param) << bad.more;
  }
}

TEST(ChatRequest, RefusesWhatIsNoJson) {
  const std::string deep(100000, '[');
  for (const std::string& body :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"), std::string("\"x\""), deep,
        "{\"messages\": " + deep, std::string(R"({"temperature": NaN})"),
        std::string(R"({"temperature": 1e400})"), std::string(R"({"n": 1, "n": 2})"),
        std::string(R"({"n": 1, "\u006e": 2})"), std::string("{\"a\": \"\xff\"}"), std::string("{}\0{}", 5),
        std::string("\xEF\xBB\xBF{}"), std::string("{} x")}) {
    const auto parsed = ParseChatRequest(body);
    ASSERT_FALSE(parsed.has_value()) << body.substr(0, 50);
    EXPECT_EQ(parsed.error().status, 400);
    EXPECT_LT(parsed.error().message.size(), 1000u);
  }
}

RC_GTEST_PROP(ChatRequest, AnyPrefixAndAnyChangedByteIsReadOrRefused, ()) {
  std::string body =
      "{" + kMessages + R"(, "stop": ["a"], "n": 2, "stream_options": {"include_usage": true}})";
  const auto at = *rc::gen::inRange<size_t>(0, body.size());
  if (*rc::gen::arbitrary<bool>()) {
    body.resize(at);
  } else {
    body[at] = *rc::gen::arbitrary<char>();
  }
  const auto parsed = ParseChatRequest(body);
  RC_ASSERT((parsed.has_value() ? !parsed->messages.empty() : parsed.error().status == 400));
}

TEST(CompletionRequest, PromptsAreTextsOrIdsOrListsOfThem) {
  const auto prompts = [](const std::string& prompt) {
    return ParseCompletionRequest("{\"prompt\": " + prompt + "}");
  };
  EXPECT_EQ(prompts(R"("a")")->prompts.size(), 1u);
  EXPECT_EQ(prompts(R"(["a", "b"])")->prompts.size(), 2u);
  EXPECT_EQ(std::get<std::vector<int32_t>>(prompts("[1, 2, 3]")->prompts[0]),
            (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(prompts("[[1, 2], [3]]")->prompts.size(), 2u);
  EXPECT_EQ(prompts(R"("")")->prompts.size(), 1u);
  EXPECT_EQ(prompts(R"("a")")->generation.max_tokens, 16);
  for (const char* bad : {"null", "5", "{}", "[]", "[1, -2]", "[1, 2.5]", "[1, \"a\"]", "[[]]", "[[1], 2]",
                          "[true]", "[4294967296]", "[[1, \"a\"]]"}) {
    const auto parsed = prompts(bad);
    ASSERT_FALSE(parsed.has_value()) << bad;
    EXPECT_THAT(parsed.error().param, HasSubstr("prompt")) << bad;
  }
  std::string many = "[\"x\"";
  for (int i = 0; i < 64; ++i) many += ", \"x\"";
  EXPECT_FALSE(prompts(many + "]").has_value());
}

TEST(CompletionRequest, RangesOfItsOwn) {
  const auto parse = [](const std::string& more) {
    return ParseCompletionRequest("{\"prompt\": \"x\", " + more + "}");
  };
  const auto scored = parse(R"("echo": true, "max_tokens": 0, "logprobs": 1)");
  ASSERT_TRUE(scored.has_value());
  EXPECT_TRUE(scored->only_echo);
  EXPECT_EQ(scored->generation.top_logprobs, 1);
  EXPECT_EQ(parse(R"("logprobs": 0)")->generation.top_logprobs, 0);
  EXPECT_EQ(parse(R"("max_tokens": 0)").error().param, "max_tokens");
  EXPECT_EQ(parse(R"("logprobs": 99)").error().param, "logprobs");
  EXPECT_EQ(parse(R"("suffix": "x")").error().param, "suffix");
  EXPECT_EQ(parse(R"("best_of": 2)").error().param, "best_of");
  EXPECT_EQ(parse(R"("echo": true, "stream": true)").error().param, "echo");
  EXPECT_TRUE(parse(R"("best_of": 1, "suffix": "")").has_value());
}

TEST(Sampling, IsTheRequestsElseTheModels) {
  GenerationFields fields;
  const GenerationDefaults asks{.temperature = 0.6f, .top_p = 0.95f, .top_k = 40, .do_sample = true};
  EXPECT_EQ(SamplingOf(fields, asks, 9, 0).temperature, 0.6f);
  EXPECT_EQ(SamplingOf(fields, asks, 9, 0).top_k, 40);
  EXPECT_EQ(SamplingOf(fields, {}, 9, 0).temperature, 0.f);
  EXPECT_EQ(SamplingOf(fields, asks, 9, 2).seed, 11u);
  fields.temperature = 0.f;
  fields.seed = 5;
  EXPECT_EQ(SamplingOf(fields, asks, 9, 0).temperature, 0.f);
  EXPECT_EQ(SamplingOf(fields, asks, 9, 1).seed, 6u);
}

TEST(ApiError, SaysWhetherToTryAgain) {
  const HttpResponse busy = ErrorResponse(FromError({ErrorKind::kBusy, "full"}));
  EXPECT_EQ(busy.status, 429);
  EXPECT_EQ(busy.headers[0].first, "Retry-After");
  const HttpResponse broken = ErrorResponse(FromError({ErrorKind::kIo, "shard 3 \xff"}));
  EXPECT_EQ(broken.status, 500);
  EXPECT_EQ(broken.headers[0], (std::pair<std::string, std::string>("x-should-retry", "false")));
  EXPECT_THAT(broken.body, AllOf(HasSubstr("server_error"), HasSubstr("io_error"), HasSubstr("shard 3")));
  EXPECT_EQ(FromError({ErrorKind::kUsage, "x"}).status, 400);
}

}  // namespace
}  // namespace moraine::test
