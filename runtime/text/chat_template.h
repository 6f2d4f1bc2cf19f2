// The chat template door: a conversation to the prompt the model was trained on.
//
// Templates are never executed. Each known one has a native renderer, chosen by the SHA-256 of the template's
// exact text, and equals what Python's jinja2 makes of that text under the settings of Hugging Face's
// apply_chat_template; an unknown template is refused with its hash.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/text/tokenizer.h"

namespace moraine {

/// One call of a tool by the assistant.
struct ToolCall {
  std::string id;  // no DeepSeek template prints it
  std::string type = "function";
  std::string name;
  std::string arguments;  // text; as a rule a JSON object
  /// True: `arguments` is JSON text and stands for the value it spells, as when a Python caller passes a
  /// dict. V3.1 prints that value; V3 and R1 join strings and refuse it.
  bool arguments_are_value = false;
};

/// One message, with the distinctions templates make: absent, null and empty differ.
struct Message {
  std::string role;                                 // system, user, assistant, tool; others are passed over
  std::optional<std::string> content;               // none: null
  std::optional<std::vector<ToolCall>> tool_calls;  // none: the key is absent
  std::optional<std::string> reasoning;             // reasoning_content; V3, R1 and V3.1 do not print it
  bool prefix = false;                              // V3.1: the assistant's message is to be continued
};

/// A function the model may call.
struct Tool {
  std::string name;
  std::string description;
  std::string parameters;  // JSON text, a schema
};

/// How a template writes a call: TYPE, separator, NAME and the arguments in a ```json fence (V3, R1), or
/// NAME, separator, arguments (V3.1).
enum class ToolCallForm { kFenced, kPlain };

struct RenderOptions {
  bool add_generation_prompt = true;
  bool thinking = false;  // V3.1: open with <think>; V3 never thinks and R1 always does
  /// Told to the model behind the system prompts, in the words of V3.1's model card; the published templates
  /// say nothing of tools, and V3 and R1 get the same words with their own form of a call.
  std::span<const Tool> tools = {};
  /// The prompt ends within a call: of this tool or, if it is empty, of one that the model names. It is not
  /// thought about: `thinking` is off, and a block that the template opens all the same is closed.
  std::optional<std::string> begun_call = {};
};

/// A renderer and the BOS text it starts with. A value; const calls from any thread.
class ChatTemplate {
 public:
  /// By the template's text; one newline at its end does not count, since jinja2 drops it. kModel, with the
  /// hash and the list of those known, if there is no renderer for it.
  static Result<ChatTemplate> FromText(std::string_view template_text, std::string bos_token);

  /// From a model folder: chat_template.jinja if it is there, else `chat_template` of tokenizer_config.json.
  /// kModel or kIo as ReadTokenizerConfig; kModel if neither names a template.
  static Result<ChatTemplate> ForModel(const std::string& folder);

  /// "DeepSeek-R1" and the like, for messages.
  std::string_view name() const { return name_; }

  ToolCallForm tool_call_form() const;
  /// RenderOptions::thinking makes a difference.
  bool can_switch_thinking() const;

  /// The prompt. What messages say is from_user, everything else is not; neighbours of one origin are joined.
  /// kUsage, naming the message, where jinja2 would raise (null content joined to a string, for one), or the
  /// tool whose parameters are not JSON.
  Result<std::vector<TextPart>> Render(std::span<const Message> messages, const RenderOptions& options) const;

 private:
  ChatTemplate() = default;
  std::string_view name_;
  size_t index_ = 0;
  std::string bos_token_;
};

/// The texts of `parts`, one after the other: what jinja2 returns.
std::string JoinParts(std::span<const TextPart> parts);

/// The ids of a rendered prompt: Tokenizer::EncodeParts, under the name one looks for here.
std::vector<int32_t> EncodeChat(const Tokenizer& tokenizer, std::span<const TextPart> parts);

/// True if the template itself opened "<think>" at the end of the prompt, so that the model's first token is
/// already reasoning (think_splitter.h).
bool OpensThinking(std::span<const TextPart> parts);

}  // namespace moraine
