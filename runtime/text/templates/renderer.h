// What every renderer shares: its input, the writer of parts, and the words for what jinja2 would refuse.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/text/chat_template.h"

namespace moraine {

/// What a template sees.
struct RenderInput {
  std::span<const Message> messages;
  const RenderOptions& options;
  std::string_view bos_token;
  ToolCallForm form;
};

/// Collects parts; neighbours of one origin become one part.
class PartWriter {
 public:
  void Template(std::string_view text) { Add(text, false); }
  void User(std::string_view text) { Add(text, true); }
  std::vector<TextPart> Take() { return std::move(parts_); }
  const std::vector<TextPart>& parts() const { return parts_; }

 private:
  void Add(std::string_view text, bool from_user);
  std::vector<TextPart> parts_;
};

using Renderer = Status (*)(const RenderInput& input, PartWriter* out);

// One file each.
Status RenderDeepSeekV3(const RenderInput& input, PartWriter* out);
Status RenderDeepSeekR1(const RenderInput& input, PartWriter* out);
Status RenderDeepSeekV31(const RenderInput& input, PartWriter* out);
Status RenderDeepSeekV31LlamaCpp(const RenderInput& input, PartWriter* out);

/// The content of a message that the template joins to a string: null cannot be joined.
Result<std::string_view> RequireContent(const RenderInput& input, size_t index);

/// What tells the model of its tools (tool_block.cc). kUsage: a tool's parameters are not JSON.
Status WriteTools(std::span<const Tool> tools, ToolCallForm form, PartWriter* out);
/// The start of an answer that is a call.
void WriteBegunCall(ToolCallForm form, const std::string& name, PartWriter* out);

/// BOS, then the system messages in order, a blank line between them, wherever they stand; the tools, if
/// there are any, as one more of them.
Status WriteSystemPrompts(const RenderInput& input, PartWriter* out);

/// `content` after the last "</think>" in it, or all of it.
std::string_view AfterLastThink(std::string_view content);
/// `content` after the first "</think>" in it, or all of it.
std::string_view AfterFirstThink(std::string_view content);

/// The error of message `index`: "messages[3] (assistant): <why>".
tl::unexpected<Error> RefuseMessage(const RenderInput& input, size_t index, const std::string& why);

}  // namespace moraine
