#include "runtime/text/templates/renderer.h"

#include <fmt/core.h>

namespace moraine {
namespace {

constexpr std::string_view kThinkEnd = "</think>";

}  // namespace

void PartWriter::Add(std::string_view text, bool from_user) {
  if (text.empty()) return;
  if (parts_.empty() || parts_.back().from_user != from_user) parts_.push_back({std::string(), from_user});
  parts_.back().text += text;
}

tl::unexpected<Error> RefuseMessage(const RenderInput& input, size_t index, const std::string& why) {
  return Fail(ErrorKind::kUsage,
              fmt::format("messages[{}] ({}): {}", index, input.messages[index].role.substr(0, 20), why));
}

Result<std::string_view> RequireContent(const RenderInput& input, size_t index) {
  const auto& content = input.messages[index].content;
  if (!content.has_value())
    return RefuseMessage(input, index, "content is null where the chat template needs text");
  return std::string_view(*content);
}

Status WriteSystemPrompts(const RenderInput& input, PartWriter* out) {
  out->Template(input.bos_token);
  bool first = true;
  for (size_t i = 0; i < input.messages.size(); ++i) {
    if (input.messages[i].role != "system") continue;
    MORAINE_ASSIGN_OR_RETURN(const std::string_view content, RequireContent(input, i));
    if (!first) out->Template("\n\n");
    first = false;
    out->User(content);
  }
  if (input.options.tools.empty()) return {};
  if (!first) out->Template("\n\n");
  return WriteTools(input.options.tools, input.form, out);
}

std::string_view AfterLastThink(std::string_view content) {
  const size_t at = content.rfind(kThinkEnd);
  return at == std::string_view::npos ? content : content.substr(at + kThinkEnd.size());
}

std::string_view AfterFirstThink(std::string_view content) {
  const size_t at = content.find(kThinkEnd);
  return at == std::string_view::npos ? content : content.substr(at + kThinkEnd.size());
}

}  // namespace moraine
