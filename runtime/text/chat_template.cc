#include "runtime/text/chat_template.h"

#include <fmt/core.h>

#include "runtime/core/sha256.h"
#include "runtime/text/templates/renderer.h"
#include "runtime/text/tokenizer_config.h"

namespace moraine {
namespace {

struct KnownTemplate {
  std::string_view sha256;  // of the text without the one newline that may end it
  std::string_view name;
  Renderer render;
  ToolCallForm form;
  bool can_switch_thinking;
};

constexpr ToolCallForm kFenced = ToolCallForm::kFenced;
constexpr ToolCallForm kPlain = ToolCallForm::kPlain;

constexpr KnownTemplate kTemplates[] = {
    {"3a3036eeb96ca0e48565fc1f19b4d7d3fa17ada32bb1b3d5ed539ae74cf22923", "DeepSeek-V3", RenderDeepSeekV3,
     kFenced, false},
    {"563b1ce7d61d50a9b4c7439a912a1116f095b712df5b5e4d3e1116049874eb64", "DeepSeek-R1", RenderDeepSeekR1,
     kFenced, false},
    {"45690185067ea25c073bff2d3e425a45ee2564d2bbf6cdf7d885e139d460b8e0", "DeepSeek-V3.1", RenderDeepSeekV31,
     kPlain, true},
    {"7fe7159748925dc7d9e2aaeb11e4bd3121c311d8d0e3a0d6377fb8550e64c560", "DeepSeek-V3.1 (llama.cpp, 2025)",
     RenderDeepSeekV31, kPlain, true},
    {"d9f5f351b276cf9e81d009db08830db7d38e94927aecd09a7beb43e2aafee94e", "DeepSeek-V3.1 (llama.cpp)",
     RenderDeepSeekV31LlamaCpp, kPlain, true},
};

}  // namespace

Result<ChatTemplate> ChatTemplate::FromText(std::string_view template_text, std::string bos_token) {
  if (template_text.ends_with('\n')) template_text.remove_suffix(1);
  const std::string hash = Sha256Hex(template_text);
  std::string known;
  for (size_t i = 0; i < std::size(kTemplates); ++i) {
    if (kTemplates[i].sha256 == hash) {
      ChatTemplate found;
      found.name_ = kTemplates[i].name;
      found.index_ = i;
      found.bos_token_ = std::move(bos_token);
      return found;
    }
    known += fmt::format("\n  {}  {}", kTemplates[i].sha256, kTemplates[i].name);
  }
  return Fail(
      ErrorKind::kModel,
      fmt::format("no renderer for the chat template with SHA-256 {}; templates are not executed. Known:{}",
                  hash, known));
}

Result<ChatTemplate> ChatTemplate::ForModel(const std::string& folder) {
  MORAINE_ASSIGN_OR_RETURN(TokenizerConfig config, ReadTokenizerConfig(folder));
  if (!config.chat_template.has_value()) {
    return Fail(ErrorKind::kModel,
                fmt::format("{}: no chat template, neither in tokenizer_config.json nor as "
                            "chat_template.jinja",
                            folder));
  }
  auto found = FromText(*config.chat_template, std::move(config.bos_token));
  if (!found) return Fail(found.error(), folder);
  return found;
}

ToolCallForm ChatTemplate::tool_call_form() const { return kTemplates[index_].form; }

bool ChatTemplate::can_switch_thinking() const { return kTemplates[index_].can_switch_thinking; }

Result<std::vector<TextPart>> ChatTemplate::Render(std::span<const Message> messages,
                                                   const RenderOptions& options) const {
  PartWriter writer;
  const KnownTemplate& known = kTemplates[index_];
  RenderOptions own = options;
  own.thinking = options.thinking && !options.begun_call;
  MORAINE_RETURN_IF_ERROR(known.render({messages, own, bos_token_, known.form}, &writer));
  if (!options.begun_call) return writer.Take();
  if (OpensThinking(writer.parts())) writer.Template("\n</think>\n\n");
  WriteBegunCall(known.form, *options.begun_call, &writer);
  return writer.Take();
}

std::string JoinParts(std::span<const TextPart> parts) {
  std::string text;
  for (const TextPart& part : parts) text += part.text;
  return text;
}

std::vector<int32_t> EncodeChat(const Tokenizer& tokenizer, std::span<const TextPart> parts) {
  return tokenizer.EncodeParts(parts);
}

bool OpensThinking(std::span<const TextPart> parts) {
  if (parts.empty() || parts.back().from_user) return false;
  std::string_view end = parts.back().text;
  if (end.ends_with('\n')) end.remove_suffix(1);
  return end.ends_with("<think>");
}

}  // namespace moraine
