#include "runtime/server/openai/chat_request.h"

#include <fmt/core.h>

#include <array>
#include <limits>
#include <utility>

#include "runtime/core/json_guard.h"
#include "runtime/core/printable.h"
#include "runtime/server/openai/response_format.h"

namespace moraine {
namespace {

using nlohmann::json;

constexpr int64_t kMostTokens = std::numeric_limits<int32_t>::max();

// A string, or the text parts of a list joined.
void ReadContent(Fields* fields, std::optional<std::string>* content) {
  const json* value = fields->Raw("content");
  if (value == nullptr) return;
  if (value->is_string()) {
    *content = value->get<std::string>();
    return;
  }
  if (!value->is_array())
    return fields->Refuse("content", "neither a string nor a list of parts", "invalid_type");
  std::string text;
  for (size_t i = 0; i < value->size(); ++i) {
    Fields part((*value)[i], fields->Name(fmt::format("content[{}]", i)));
    const std::string type = part.String("type").value_or("");
    const auto piece = part.String("text");
    if (!part.error() && (type != "text" || !piece)) {
      return fields->Refuse(
          fmt::format("content[{}]", i),
          fmt::format("a part of type \"{}\"; this server reads parts of type \"text\" alone",
                      Printable(type, 40)),
          "unsupported_content");
    }
    if (part.error()) return fields->Refuse(fmt::format("content[{}]", i), part.error()->message);
    text += *piece;
  }
  *content = std::move(text);
}

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

std::optional<Message> ReadMessage(const json& value, size_t index, std::optional<ApiError>* error) {
  Fields fields(value, fmt::format("messages[{}]", index));
  Message message;
  message.role = fields.String("role").value_or("");
  if (message.role == "developer") message.role = "system";
  static constexpr std::array kRoles = {"system", "user", "assistant", "tool"};
  if (std::ranges::find(kRoles, message.role) == kRoles.end()) {
    fields.Refuse("role", fmt::format("\"{}\"; expected system, developer, user, assistant or tool",
                                      Printable(message.role, 40)));
  }
  ReadContent(&fields, &message.content);
  if (message.role == "assistant") {
    ReadToolCalls(&fields, &message.tool_calls);
    message.reasoning = fields.String("reasoning_content");
    if (!message.reasoning) message.reasoning = fields.String("reasoning");
    if (!message.content && !message.tool_calls) message.content = "";
  } else if (!message.content) {
    fields.Refuse("content", fmt::format("missing; a message of the role {} needs it", message.role));
  }
  *error = fields.error();
  if (*error) return std::nullopt;
  return message;
}

void ReadMessages(Fields* fields, std::vector<Message>* messages, std::optional<ApiError>* error) {
  const json* list = fields->Raw("messages");
  if (list == nullptr || !list->is_array() || list->empty()) {
    return fields->Refuse("messages", "expected a list with at least one message",
                          list == nullptr ? "missing_required_parameter" : "");
  }
  for (size_t i = 0; i < list->size() && !*error; ++i) {
    auto message = ReadMessage((*list)[i], i, error);
    if (message) messages->push_back(std::move(*message));
  }
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

// Tools are not put into prompts: a request that can do without a call goes on without one.
void ReadTools(Fields* fields) {
  fields->Ignore({"tools", "parallel_tool_calls", "functions"});
  const json* choice = fields->Raw("tool_choice");
  if (choice == nullptr || *choice == "auto" || *choice == "none") return;
  fields->Refuse("tool_choice", "this server offers the model no tools, so it cannot be made to call one",
                 "unsupported_parameter");
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
  ReadTools(&fields);
  generation.form = ReadResponseFormat(&fields, body);
  std::optional<ApiError> message_error;
  ReadMessages(&fields, &request.messages, &message_error);
  if (fields.error()) return tl::unexpected(*fields.error());
  if (message_error) return tl::unexpected(std::move(*message_error));
  generation.unknown_fields = fields.unknown();
  return request;
}

}  // namespace moraine
