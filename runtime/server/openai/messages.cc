#include "runtime/server/openai/messages.h"

#include <fmt/core.h>

#include <algorithm>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "runtime/core/printable.h"

namespace moraine {
namespace {

bool IsText(std::string_view type) { return type == "text" || type == "input_text" || type == "output_text"; }

}  // namespace

void ReadContent(Fields* fields, const char* name, std::optional<std::string>* content) {
  const nlohmann::json* value = fields->Raw(name);
  if (value == nullptr) return;
  if (value->is_string()) {
    *content = value->get<std::string>();
    return;
  }
  if (!value->is_array()) return fields->Refuse(name, "neither a string nor a list of parts", "invalid_type");
  std::string text;
  for (size_t i = 0; i < value->size(); ++i) {
    const std::string where = fmt::format("{}[{}]", name, i);
    Fields part((*value)[i], fields->Name(where));
    const std::string type = part.String("type").value_or("");
    const auto piece = part.String("text");
    if (part.error()) return fields->Refuse(where, part.error()->message);
    if (!IsText(type) || !piece) {
      return fields->Refuse(
          where, fmt::format("a part of type \"{}\"; this server reads text alone", Printable(type, 40)),
          "unsupported_content");
    }
    text += *piece;
  }
  *content = std::move(text);
}

void OrderResults(std::span<ConversationMessage> messages) {
  std::unordered_map<std::string_view, size_t> places;  // of the latest calls' ids
  for (size_t i = 0; i < messages.size(); ++i) {
    const Message& message = messages[i].message;
    if (message.tool_calls) {
      places.clear();
      for (const ToolCall& call : *message.tool_calls) places.emplace(call.id, places.size());
    }
    size_t end = i;
    while (end < messages.size() && messages[end].message.role == "tool") ++end;
    if (end == i) continue;
    const auto results = messages.subspan(i, end - i);
    const auto known = [&](const ConversationMessage& one) { return places.contains(one.call_id); };
    const auto place = [&](const ConversationMessage& one) { return places.at(one.call_id); };
    if (std::ranges::all_of(results, known)) std::ranges::stable_sort(results, {}, place);
    i = end - 1;
  }
}

}  // namespace moraine
