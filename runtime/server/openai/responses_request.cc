#include "runtime/server/openai/responses_request.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "runtime/core/json_guard.h"
#include "runtime/core/printable.h"
#include "runtime/server/openai/messages.h"

namespace moraine {
namespace {

using nlohmann::json;

constexpr int64_t kMostTokens = std::numeric_limits<int32_t>::max();

// The conversation, item by item.
class ItemReader {
 public:
  void Add(Fields* item) {
    const std::string type = item->String("type").value_or("message");
    if (item->error()) return;
    if (type == "message") return AddMessage(item);
    if (type == "function_call") return AddCall(item);
    if (type == "function_call_output") return AddResult(item);
    if (type == "reasoning") return;
    item->Refuse("type",
                 fmt::format("\"{}\"; this server reads message, function_call, function_call_output and "
                             "reasoning",
                             Printable(type, 40)),
                 "unsupported_parameter");
  }

  std::vector<ConversationMessage> Take() { return std::move(messages_); }

 private:
  void AddMessage(Fields* item) {
    ConversationMessage read;
    read.message.role = item->String("role").value_or("");
    if (read.message.role == "developer") read.message.role = "system";
    static constexpr std::array kRoles = {"system", "user", "assistant"};
    if (std::ranges::find(kRoles, read.message.role) == kRoles.end()) {
      item->Refuse("role", fmt::format("\"{}\"; expected system, developer, user or assistant",
                                       Printable(read.message.role, 40)));
    }
    ReadContent(item, "content", &read.message.content);
    if (!read.message.content) item->Refuse("content", "missing", "missing_required_parameter");
    messages_.push_back(std::move(read));
  }

  // Calls belong to the turn of the assistant's text before them.
  void AddCall(Fields* item) {
    ToolCall call;
    call.id = item->String("call_id").value_or("");
    call.name = item->String("name").value_or("");
    call.arguments = item->String("arguments").value_or("");
    if (call.name.empty()) item->Refuse("name", "names no function", "missing_required_parameter");
    if (messages_.empty() || messages_.back().message.role != "assistant") {
      messages_.emplace_back();
      messages_.back().message.role = "assistant";
    }
    auto& calls = messages_.back().message.tool_calls;
    if (!calls) calls.emplace();
    calls->push_back(std::move(call));
  }

  void AddResult(Fields* item) {
    ConversationMessage read;
    read.message.role = "tool";
    read.call_id = item->String("call_id").value_or("");
    ReadContent(item, "output", &read.message.content);
    if (!read.message.content) item->Refuse("output", "missing", "missing_required_parameter");
    messages_.push_back(std::move(read));
  }

  std::vector<ConversationMessage> messages_;
};

void ReadInput(Fields* fields, std::vector<Message>* messages) {
  const json* input = fields->Raw("input");
  if (input == nullptr) return fields->Refuse("input", "missing", "missing_required_parameter");
  if (input->is_string()) {
    Message user;
    user.role = "user";
    user.content = input->get<std::string>();
    messages->push_back(std::move(user));
    return;
  }
  if (!input->is_array() || input->empty())
    return fields->Refuse("input", "expected a string or a list of items", "invalid_type");
  ItemReader reader;
  for (size_t i = 0; i < input->size(); ++i) {
    Fields item((*input)[i], fmt::format("input[{}]", i));
    if (!item.error()) reader.Add(&item);
    if (item.error()) return fields->Fail(*item.error());
  }
  std::vector<ConversationMessage> read = reader.Take();
  OrderResults(read);
  for (ConversationMessage& one : read) messages->push_back(std::move(one.message));
}

void RefuseState(Fields* fields) {
  for (const char* name : {"previous_response_id", "conversation", "prompt"}) {
    if (fields->Raw(name) != nullptr) {
      fields->Refuse(name, "this server keeps nothing between requests: send the whole conversation as input",
                     "unsupported_parameter");
    }
  }
  if (fields->Bool("background").value_or(false))
    fields->Refuse("background", "this server keeps nothing between requests", "unsupported_parameter");
  fields->Bool("store");
}

void ReadReasoning(Fields* fields, bool* thinking) {
  const json* reasoning = fields->Raw("reasoning");
  if (reasoning == nullptr) return;
  Fields inner(*reasoning, "reasoning");
  if (const auto effort = inner.String("effort")) *thinking = *effort != "none";
  if (inner.error()) fields->Fail(*inner.error());
}

void ReadText(Fields* fields) {
  const json* text = fields->Raw("text");
  if (text == nullptr) return;
  Fields inner(*text, "text");
  if (const json* format = inner.Raw("format")) {
    Fields innermost(*format, "text.format");
    const std::string type = innermost.String("type").value_or("text");
    if (innermost.error()) inner.Fail(*innermost.error());
    if (type != "text") {
      inner.Refuse("format.type",
                   fmt::format("\"{}\" is not supported by this server; \"text\" is", Printable(type, 40)),
                   "unsupported_parameter");
    }
  }
  if (inner.error()) fields->Fail(*inner.error());
}

void ReadRest(Fields* fields) {
  if (fields->Int("top_logprobs", 0, 20).value_or(0) > 0)
    fields->Refuse("top_logprobs", "not supported by this server here", "unsupported_parameter");
  if (fields->String("truncation").value_or("disabled") != "disabled")
    fields->Refuse("truncation", "this server cuts no conversation short", "unsupported_parameter");
  if (const json* metadata = fields->Raw("metadata"); metadata != nullptr && !metadata->is_object())
    fields->Refuse("metadata", "not an object", "invalid_type");
  fields->Ignore({"include", "max_tool_calls", "prompt_cache_retention", "prompt_cache_options"});
}

// A member as it came, or what stands for it.
json Repeated(const json& request, const char* name, const json& otherwise) {
  const auto found = request.find(name);
  return found == request.end() || found->is_null() ? otherwise : *found;
}

}  // namespace

ApiResult<ResponsesRequest> ParseResponsesRequest(std::string_view body) {
  auto document = ParseJson(body, "the request");
  if (!document.has_value())
    return tl::unexpected(ApiError{.code = "invalid_json", .param = "", .message = document.error().message});
  Fields fields(*document, "");
  ResponsesRequest request;
  ChatRequest& chat = request.chat;
  chat.generation = ReadGenerationFields(&fields);
  chat.generation.max_tokens = fields.Int("max_output_tokens", 1, kMostTokens).value_or(0);
  if (chat.generation.n != 1) fields.Refuse("n", "one answer alone is made here", "unsupported_parameter");
  RefuseState(&fields);
  ReadReasoning(&fields, &chat.thinking);
  ReadText(&fields);
  ReadRest(&fields);
  chat.tools = ReadToolFields(&fields, ToolDialect::kResponses, body);
  if (auto instructions = fields.String("instructions")) {
    Message system;
    system.role = "system";
    system.content = std::move(*instructions);
    chat.messages.push_back(std::move(system));
  }
  ReadInput(&fields, &chat.messages);
  if (fields.error()) return tl::unexpected(*fields.error());
  chat.generation.unknown_fields = fields.unknown();
  request.repeated = {
      {"instructions", Repeated(*document, "instructions", nullptr)},
      {"metadata", Repeated(*document, "metadata", json::object())},
      {"tools", Repeated(*document, "tools", json::array())},
      {"tool_choice", Repeated(*document, "tool_choice", "auto")},
      {"parallel_tool_calls", chat.tools.parallel},
      {"max_output_tokens", Repeated(*document, "max_output_tokens", nullptr)},
      {"reasoning", Repeated(*document, "reasoning", {{"effort", nullptr}, {"summary", nullptr}})},
      {"text", {{"format", {{"type", "text"}}}}},
      {"user", Repeated(*document, "user", nullptr)}};
  return request;
}

}  // namespace moraine
