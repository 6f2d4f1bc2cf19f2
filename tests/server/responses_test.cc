// /v1/responses: what it reads, and the items and events of its answers.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/server/openai/responses_format.h"
#include "runtime/server/openai/responses_request.h"

namespace moraine::test {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ResponsesRequest, ReadsAString) {
  const auto parsed = ParseResponsesRequest(R"({"model": "m", "input": "Hi", "instructions": "Be brief.",
      "max_output_tokens": 9, "temperature": 0.5, "top_p": 0.25, "stream": true, "store": true, "text":
      {"format": {"type": "text"}, "verbosity": "low"}, "reasoning": {"effort": "low", "summary": "auto"}, "include": [],
      "metadata": {"a": "b"}, "truncation": "disabled", "foo": 1})");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  const ChatRequest& chat = parsed->chat;
  ASSERT_EQ(chat.messages.size(), 2u);
  EXPECT_EQ(chat.messages[0].role, "system");
  EXPECT_EQ(chat.messages[1].content, "Hi");
  EXPECT_EQ(chat.generation.max_tokens, 9);
  EXPECT_TRUE(chat.generation.stream);
  EXPECT_TRUE(chat.thinking);
  EXPECT_EQ(chat.generation.unknown_fields, 1);
  EXPECT_EQ(parsed->repeated["metadata"]["a"], "b");
  EXPECT_EQ(parsed->repeated["instructions"], "Be brief.");
}

TEST(ResponsesRequest, ReadsItems) {
  const auto parsed = ParseResponsesRequest(R"({"input": [
      {"role": "developer", "content": "d"},
      {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
      {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
      {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "content": [{"type": "output_text",
       "text": "I look.", "annotations": []}]},
      {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
      {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{\"x\": 1}"},
      {"type": "function_call_output", "call_id": "c2", "output": "2"},
      {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "1"}]}],
      "tools": [{"type": "function", "name": "f", "parameters": {"type": "object", "b": 1, "a": 2}, "strict": true}],
      "tool_choice": {"type": "function", "name": "f"}})");
  ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
  const auto& messages = parsed->chat.messages;
  ASSERT_EQ(messages.size(), 5u);
  EXPECT_EQ(messages[0].role, "system");
  EXPECT_EQ(messages[1].content, "ab");
  EXPECT_EQ(messages[2].content, "I look.");
  ASSERT_EQ(messages[2].tool_calls->size(), 2u);
  EXPECT_EQ((*messages[2].tool_calls)[1].arguments, "{\"x\": 1}");
  EXPECT_EQ(messages[3].content, "1") << "in the order of the calls";
  EXPECT_EQ(messages[4].content, "2");
  EXPECT_EQ(parsed->chat.tools.begun_call, "f");
  EXPECT_EQ(parsed->chat.tools.tools.at(0).parameters, R"({"type": "object", "b": 1, "a": 2})");
}

TEST(ResponsesRequest, RefusesWithTheFieldsName) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "input"},
      {R"("input": [])", "input"},
      {R"("input": 3)", "input"},
      {R"("input": [3])", "input[0]"},
      {R"("input": [{"type": "item_reference", "id": "x"}])", "input[0].type"},
      {R"("input": [{"role": "tool", "content": "x"}])", "input[0].role"},
      {R"("input": [{"role": "user"}])", "input[0].content"},
      {R"("input": [{"role": "user", "content": [{"type": "input_image"}]}])", "input[0].content[0]"},
      {R"("input": [{"type": "function_call", "call_id": "c"}])", "input[0].name"},
      {R"("input": [{"type": "function_call_output", "call_id": "c"}])", "input[0].output"},
      {R"("input": "x", "previous_response_id": "resp_1")", "previous_response_id"},
      {R"("input": "x", "conversation": "c")", "conversation"},
      {R"("input": "x", "prompt": {"id": "p"})", "prompt"},
      {R"("input": "x", "background": true)", "background"},
      {R"("input": "x", "store": 1)", "store"},
      {R"("input": "x", "truncation": "auto")", "truncation"},
      {R"("input": "x", "max_output_tokens": 0)", "max_output_tokens"},
      {R"("input": "x", "text": {"format": {"type": "json_schema"}})", "text.format.type"},
      {R"("input": "x", "reasoning": {"effort": 1})", "reasoning.effort"},
      {R"("input": "x", "tools": [{"type": "web_search"}])", "tools[0].type"},
      {R"("input": "x", "tools": [{"type": "function", "name": "a b"}])", "tools[0].name"},
      {R"("input": "x", "top_logprobs": 2)", "top_logprobs"},
      {R"("input": "x", "metadata": [])", "metadata"},
      {R"("input": "x", "instructions": [])", "instructions"},
      {R"("input": "x", "n": 2)", "n"},
  };
  for (const auto& [more, param] : cases) {
    const auto parsed = ParseResponsesRequest(fmt::format("{{{}}}", more));
    ASSERT_FALSE(parsed.has_value()) << more;
    EXPECT_EQ(parsed.error().status, 400) << more;
    EXPECT_EQ(parsed.error().param, param) << more;
    EXPECT_THAT(parsed.error().message, HasSubstr(param)) << more;
  }
}

ResponsesFormat Made(bool stream) {
  ResponsesFormatOptions options;
  options.id = "resp_1";
  options.model = "m";
  options.stream = stream;
  options.repeated = {{"instructions", nullptr}};
  return ResponsesFormat(std::move(options));
}

ChoicePart Part(const std::string& reasoning, const std::string& content,
                std::vector<ToolCallDelta> calls = {}, const std::string& reason = "") {
  ChoicePart part;
  part.piece.reasoning = reasoning;
  part.piece.content = content;
  part.piece.calls = std::move(calls);
  part.finish_reason = reason;
  return part;
}

ToolCallDelta Delta(int index, const std::string& name, const std::string& arguments) {
  ToolCallDelta delta;
  delta.index = index;
  delta.name = name;
  if (!name.empty()) delta.id = "call_" + name;
  delta.arguments = arguments;
  return delta;
}

// An answer with one of everything, in small pieces.
std::vector<ChoicePart> Pieces(const std::string& reason) {
  return {Part("th", ""),
          Part("ink", "I "),
          Part("", "look."),
          Part("", "", {Delta(0, "f", "")}),
          Part("", "", {Delta(0, "", "{\"a\""), Delta(0, "", ": 1}"), Delta(1, "g", "{}")}),
          Part("", "", {}, reason)};
}

// The data of each event; its name stands before it.
std::vector<json> Events(const std::string& text) {
  std::vector<json> events;
  for (size_t at = 0; (at = text.find("event: ", at)) != text.npos;) {
    const size_t line = text.find('\n', at);
    const std::string name = text.substr(at + 7, line - at - 7);
    const size_t end = text.find("\n\n", at);
    EXPECT_EQ(text.substr(line + 1, 6), "data: ");
    events.push_back(json::parse(text.substr(line + 7, end - line - 7)));
    EXPECT_EQ(events.back()["type"], name);
    EXPECT_EQ(events.back()["sequence_number"], events.size() - 1);
    at = end;
  }
  return events;
}

TEST(ResponsesFormat, WholeAnswersHaveTheirItems) {
  ResponsesFormat format = Made(false);
  EXPECT_EQ(format.Begin(), "");
  for (ChoicePart& part : Pieces("tool_calls")) EXPECT_EQ(format.Add(0, std::move(part)), "");
  AnswerUsage usage;
  usage.prompt_tokens = 3;
  usage.completion_tokens = 4;
  const json body = json::parse(format.Finish(usage));
  EXPECT_EQ(body["status"], "completed");
  EXPECT_EQ(body["store"], false);
  EXPECT_EQ(body["usage"]["total_tokens"], 7);
  const json& output = body["output"];
  ASSERT_EQ(output.size(), 4u) << output;
  EXPECT_EQ(output[0]["type"], "reasoning");
  EXPECT_EQ(output[0]["content"][0]["text"], "think");
  EXPECT_EQ(output[1]["type"], "message");
  EXPECT_EQ(output[1]["content"][0]["text"], "I look.");
  EXPECT_EQ(output[2]["name"], "f");
  EXPECT_EQ(output[2]["arguments"], "{\"a\": 1}");
  EXPECT_EQ(output[2]["call_id"], "call_f");
  EXPECT_EQ(output[3]["name"], "g");
  for (const json& item : output) EXPECT_EQ(item["status"], "completed");
}

TEST(ResponsesFormat, EventsBuildTheSameItems) {
  ResponsesFormat format = Made(true);
  std::string text = format.Begin();
  for (ChoicePart& part : Pieces("tool_calls")) text += format.Add(0, std::move(part));
  text += format.Finish({});
  const std::vector<json> events = Events(text);
  EXPECT_THAT(text, ::testing::Not(HasSubstr("[DONE]")));
  std::vector<std::string> types;
  json built = json::array();
  for (const json& event : events) {
    const std::string type = event["type"];
    types.push_back(type.substr(9));
    if (event.contains("item_id")) {
      EXPECT_EQ(built.at(event["output_index"].get<size_t>())["id"], event["item_id"]);
    }
    if (type == "response.output_item.added") {
      built.push_back(event["item"]);
      EXPECT_EQ(event["item"]["status"], "in_progress");
    } else if (type == "response.content_part.added") {
      built.back()["content"].push_back(event["part"]);
    } else if (type == "response.function_call_arguments.delta") {
      built.back()["arguments"] =
          built.back()["arguments"].get<std::string>() + event["delta"].get<std::string>();
    } else if (event.contains("delta")) {
      json& part = built.back()["content"][0]["text"];
      part = part.get<std::string>() + event["delta"].get<std::string>();
    } else if (type == "response.output_item.done") {
      built.back()["status"] = "completed";
      EXPECT_EQ(event["item"], built.back());
    }
  }
  EXPECT_THAT(
      types, ElementsAre("created", "in_progress", "output_item.added", "content_part.added",
                         "reasoning_text.delta", "reasoning_text.delta", "reasoning_text.done",
                         "content_part.done", "output_item.done", "output_item.added", "content_part.added",
                         "output_text.delta", "output_text.delta", "output_text.done", "content_part.done",
                         "output_item.done", "output_item.added", "function_call_arguments.delta",
                         "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
                         "output_item.added", "function_call_arguments.delta", "function_call_arguments.done",
                         "output_item.done", "completed"));
  EXPECT_EQ(events.back()["response"]["output"], built);
}

TEST(ResponsesFormat, WhatIsCutOffSaysSo) {
  ResponsesFormat format = Made(false);
  format.Add(0, Part("", "half", {}, "length"));
  const json body = json::parse(format.Finish({}));
  EXPECT_EQ(body["status"], "incomplete");
  EXPECT_EQ(body["incomplete_details"]["reason"], "max_output_tokens");
  EXPECT_EQ(body["output"][0]["status"], "incomplete");
}

TEST(ResponsesFormat, AStreamThatBreaksOffEndsWithItsError) {
  ResponsesFormat format = Made(true);
  std::string text = format.Begin();
  text += format.Add(0, Part("", "half"));
  ApiError error;
  error.message = "expert 5";
  text += format.Fail(error);
  const json last = Events(text).back();
  EXPECT_EQ(last["type"], "response.failed");
  EXPECT_EQ(last["response"]["error"]["message"], "expert 5");
  EXPECT_EQ(last["response"]["status"], "failed");
}

}  // namespace
}  // namespace moraine::test
