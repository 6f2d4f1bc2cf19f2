#include "runtime/server/openai/chat_request.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "runtime/core/json_guard.h"
#include "runtime/core/printable.h"
#include "runtime/server/openai/messages.h"
#include "runtime/server/openai/response_format.h"

namespace moraine {
namespace {

using nlohmann::json;

constexpr int64_t kMostTokens = std::numeric_limits<int32_t>::max();

void ReadToolCalls(Fields* fields, std::optional<std::vector<ToolCall>>* calls) {
  const json* value = fields->Raw("tool_calls");
  if (value == nullptr) return;
  if (!value->is_array()) return fields->Refuse("tool_calls", "not a list", "invalid_type");
  if (value->empty()) return;
  calls->emplace();
  for (size_t i = 0; i < value->size(); ++i) {
    Fields call((*value)[i], fields->Name(fmt::format("tool_calls[{}]", i)));
    ToolCall made;
    made.id = call.String("id").value_or("");
    made.type = call.String("type").value_or("function");
    const json empty = json::object();
    const json* function = call.Raw("function");
    Fields inner(function == nullptr ? empty : *function, call.Name("function"));
    made.name = inner.String("name").value_or("");
    if (const json* arguments = inner.Raw("arguments")) {
      made.arguments = arguments->is_string() ? arguments->get<std::string>() : arguments->dump();
    }
    const auto& error = call.error() ? call.error() : inner.error();
    if (error || made.name.empty()) {
      return fields->Refuse(fmt::format("tool_calls[{}]", i),
                            error ? error->message : "names no function (function.name)");
    }
    (*calls)->push_back(std::move(made));
  }
}

std::optional<ConversationMessage> ReadMessage(const json& value, size_t index,
                                               std::optional<ApiError>* error) {
  Fields fields(value, fmt::format("messages[{}]", index));
  ConversationMessage read;
  Message& message = read.message;
  message.role = fields.String("role").value_or("");
  if (message.role == "developer") message.role = "system";
  static constexpr std::array kRoles = {"system", "user", "assistant", "tool"};
  if (std::ranges::find(kRoles, message.role) == kRoles.end()) {
    fields.Refuse("role", fmt::format("\"{}\"; expected system, developer, user, assistant or tool",
                                      Printable(message.role, 40)));
  }
  ReadContent(&fields, "content", &message.content);
  if (message.role == "assistant") {
    ReadToolCalls(&fields, &message.tool_calls);
    message.reasoning = fields.String("reasoning_content");
    const auto reasoning = fields.String("reasoning");
    if (!message.reasoning) message.reasoning = reasoning;
    if (!message.content && !message.tool_calls) message.content = "";
  } else if (!message.content) {
    fields.Refuse("content", fmt::format("missing; a message of the role {} needs it", message.role));
  }
  if (message.role == "tool") read.call_id = fields.String("tool_call_id").value_or("");
  *error = fields.error();
  if (*error) return std::nullopt;
  return read;
}

void ReadMessages(Fields* fields, std::vector<Message>* messages, std::optional<ApiError>* error) {
  const json* list = fields->Raw("messages");
  if (list == nullptr || !list->is_array() || list->empty()) {
    return fields->Refuse("messages", "expected a list with at least one message",
                          list == nullptr ? "missing_required_parameter" : "");
  }
  std::vector<ConversationMessage> read;
  for (size_t i = 0; i < list->size() && !*error; ++i) {
    auto one = ReadMessage((*list)[i], i, error);
    if (one) read.push_back(std::move(*one));
  }
  OrderResults(read);
  for (ConversationMessage& one : read) messages->push_back(std::move(one.message));
}

// Three dialects of one switch; the most particular speaks.
void ReadThinking(Fields* fields, bool* thinking) {
  if (const auto effort = fields->String("reasoning_effort")) *thinking = *effort != "none";
  if (const json* value = fields->Raw("thinking")) {
    if (value->is_boolean()) {
      *thinking = value->get<bool>();
    } else {
      Fields inner(*value, "thinking");
      *thinking = inner.String("type").value_or("") == "enabled";
      if (inner.error()) fields->Refuse("thinking", inner.error()->message);
    }
  }
  if (const json* value = fields->Raw("chat_template_kwargs")) {
    Fields inner(*value, "chat_template_kwargs");
    if (const auto enabled = inner.Bool("enable_thinking")) *thinking = *enabled;
    if (const auto enabled = inner.Bool("thinking")) *thinking = *enabled;
    if (inner.error()) fields->Refuse("chat_template_kwargs", inner.error()->message);
  }
}

void ReadLogprobs(Fields* fields, int32_t* top) {
  const bool wanted = fields->Bool("logprobs").value_or(false);
  const auto count = fields->Int("top_logprobs", 0, 20);
  if (count && *count > 0 && !wanted) fields->Refuse("top_logprobs", "needs \"logprobs\": true");
  if (wanted) *top = static_cast<int32_t>(count.value_or(0));
}

}  // namespace

ApiResult<ChatRequest> ParseChatRequest(std::string_view body) {
  auto document = ParseJson(body, "the request");
  if (!document.has_value())
    return tl::unexpected(ApiError{.code = "invalid_json", .param = "", .message = document.error().message});
  Fields fields(*document, "");
  ChatRequest request;
  request.generation = ReadGenerationFields(&fields);
  GenerationFields& generation = request.generation;
  generation.max_tokens = fields.Int("max_tokens", 1, kMostTokens).value_or(0);
  generation.max_tokens = fields.Int("max_completion_tokens", 1, kMostTokens).value_or(generation.max_tokens);
  ReadLogprobs(&fields, &generation.top_logprobs);
  ReadThinking(&fields, &request.thinking);
  request.tools = ReadToolFields(&fields, ToolDialect::kChat, body);
  fields.Ignore({"functions"});
  generation.form = ReadResponseFormat(&fields, body);
  if (generation.form != nullptr && request.tools.begun_call) {
    fields.Refuse("response_format", "a call that tool_choice demands has its own form");
  }
  std::optional<ApiError> message_error;
  ReadMessages(&fields, &request.messages, &message_error);
  if (fields.error()) return tl::unexpected(*fields.error());
  if (message_error) return tl::unexpected(std::move(*message_error));
  generation.unknown_fields = fields.unknown();
  return request;
}

}  // namespace moraine
