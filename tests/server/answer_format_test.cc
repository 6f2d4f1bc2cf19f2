// From a model's tokens to what clients read: streams, joined, say what whole answers say, calls and all.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "runtime/server/openai/chat_format.h"
#include "runtime/server/openai/responses_format.h"

namespace moraine::test {
namespace {

using nlohmann::json;

const Tokenizer& Tiny() {
  static const auto tokenizer = *Tokenizer::Open(MORAINE_SOURCE_DIR "/models/tiny-r1/tokenizer.json");
  return *tokenizer;
}

std::unique_ptr<AnswerFormat> Chat(bool stream) {
  ChatFormatOptions options;
  options.head.id = "chatcmpl-1";
  options.stream = stream;
  return std::make_unique<ChatFormat>(std::move(options));
}

std::unique_ptr<AnswerFormat> Responses(bool stream) {
  ResponsesFormatOptions options;
  options.id = "resp_1";
  options.stream = stream;
  options.repeated = json::object();
  return std::make_unique<ResponsesFormat>(std::move(options));
}

// All that a client gets for `answer`, whose tags are meant, as Answer feeds it.
std::string Fed(AnswerFormat* format, const std::string& answer, const ToolReading& tools) {
  ChoiceText text = ChoiceText::Chat(Tiny(), /*thinking=*/!tools.begun_call, {}, tools);
  std::string sent = format->Begin();
  const auto give = [&](TextPiece piece, const std::string& reason) {
    ChoicePart part;
    part.piece = std::move(piece);
    part.finish_reason = reason;
    sent += format->Add(0, std::move(part));
  };
  for (const int32_t id : Tiny().EncodeWithAddedTokens(answer)) {
    give(text.Push(id), "");
    if (text.stopped()) break;
  }
  TextPiece last = text.Finish();
  give(std::move(last), text.has_calls() ? "tool_calls" : "stop");
  return sent + format->Finish({});
}

std::vector<json> Events(const std::string& body) {
  std::vector<json> events;
  for (size_t at = 0; (at = body.find("data: {", at)) != body.npos;) {
    const size_t end = body.find("\n\n", at);
    events.push_back(json::parse(body.substr(at + 6, end - at - 6)));
    at = end;
  }
  return events;
}

// The message that a client builds from chunks.
json Joined(const std::string& stream) {
  json message = {{"content", ""}, {"reasoning", ""}, {"calls", json::array()}};
  for (const json& chunk : Events(stream)) {
    const json& choice = chunk["choices"][0];
    const json& delta = choice["delta"];
    for (const char* name : {"content", "reasoning"})
      message[name] = message[name].get<std::string>() + delta.value(name, "");
    for (const json& call : delta.value("tool_calls", json::array())) {
      const size_t index = call["index"];
      if (index == message["calls"].size()) {
        EXPECT_TRUE(call.contains("id") && call["type"] == "function") << call;
        message["calls"].push_back({call["function"]["name"], ""});
      } else {
        EXPECT_EQ(index + 1, message["calls"].size()) << "a piece of a call that is over";
        EXPECT_FALSE(call.contains("id")) << call;
      }
      json& arguments = message["calls"].back()[1];
      arguments = arguments.get<std::string>() + call["function"]["arguments"].get<std::string>();
    }
    if (!choice["finish_reason"].is_null()) message["finish"] = choice["finish_reason"];
  }
  return message;
}

// The same of a whole chat completion.
json Read(const std::string& body) {
  const json choice = json::parse(body)["choices"][0];
  const json& said = choice["message"];
  json message = {{"content", said["content"].is_null() ? "" : said["content"]},
                  {"reasoning", said.value("reasoning", "")},
                  {"calls", json::array()},
                  {"finish", choice["finish_reason"]}};
  for (const json& call : said.value("tool_calls", json::array()))
    message["calls"].push_back({call["function"]["name"], call["function"]["arguments"]});
  return message;
}

// Of a response's output; neither ids nor empty items.
json ReadItems(const json& output) {
  json message = {{"content", ""}, {"reasoning", ""}, {"calls", json::array()}};
  for (const json& item : output) {
    if (item["type"] == "function_call") {
      message["calls"].push_back({item["name"], item["arguments"]});
      continue;
    }
    json& text = message[item["type"] == "message" ? "content" : "reasoning"];
    text = text.get<std::string>() + item["content"][0]["text"].get<std::string>();
  }
  return message;
}

json WithoutFinish(json message) {
  message.erase("finish");
  return message;
}

void CheckAll(const std::string& answer, const ToolReading& tools, json* message) {
  *message = Read(Fed(Chat(false).get(), answer, tools));
  ASSERT_EQ(Joined(Fed(Chat(true).get(), answer, tools)), *message) << answer;
  const json whole = json::parse(Fed(Responses(false).get(), answer, tools));
  ASSERT_EQ(ReadItems(whole["output"]), WithoutFinish(*message)) << answer;
  const json last = Events(Fed(Responses(true).get(), answer, tools)).back();
  ASSERT_EQ(last["type"], "response.completed");
  ASSERT_EQ(ReadItems(last["response"]["output"]), WithoutFinish(*message)) << answer;
}

std::string Call(const std::string& name, const std::string& arguments) {
  return "<｜tool▁call▁begin｜>function<｜tool▁sep｜>" + name + "\n```json\n" + arguments +
         "\n```<｜tool▁call▁end｜>";
}

TEST(AnswerFormats, SayTheSameOfAnAnswerWithTwoCalls) {
  json message;
  CheckAll("Two cities.</think>I look. <｜tool▁calls▁begin｜>" + Call("weather", "{\"city\": \"Paris\"}") +
               "\n" + Call("weather", "{\"city\": \"北京\"}") + "<｜tool▁calls▁end｜>",
           {}, &message);
  EXPECT_EQ(message["reasoning"], "Two cities.");
  EXPECT_EQ(message["content"], "I look. ");
  EXPECT_EQ(message["finish"], "tool_calls");
  EXPECT_EQ(message["calls"],
            json::parse(R"([["weather", "{\"city\": \"Paris\"}"], ["weather", "{\"city\": \"北京\"}"]])"));
}

RC_GTEST_PROP(AnswerFormats, SayTheSameOfAnyAnswer, ()) {
  const auto piece = rc::gen::elementOf(std::vector<std::string>{
      "</think>", "<think>", "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>",
      "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>", Call("f", "{}"), Call("g", "{\"a\": \"é\"}"), "function",
      "f", "\n", "```json\n", "{\"a\": 1}", "\n```", " ", "I look.", "\xF0\x9F\x98\x80"});
  std::string answer;
  for (const std::string& one : *rc::gen::container<std::vector<std::string>>(piece)) answer += one;
  ToolReading tools;
  tools.form = *rc::gen::element(ToolCallForm::kFenced, ToolCallForm::kPlain);
  tools.one_call = *rc::gen::arbitrary<bool>();
  if (*rc::gen::arbitrary<bool>()) tools.begun_call = *rc::gen::elementOf(std::vector<std::string>{"", "f"});
  json message;
  CheckAll(answer, tools, &message);
  RC_ASSERT(!::testing::Test::HasFatalFailure());
}

}  // namespace
}  // namespace moraine::test
