// DeepSeek-V3.1: thinking by request, tool calls as a name and a JSON value.
//
// Sources: the template inside published V3.1 and V3.1-Terminus GGUF files, which is DeepSeek's; and
// models/templates/deepseek-ai-DeepSeek-V3.1.jinja of llama.cpp, which first said the same in more lines
// (commit 0374c5b) and in PyPI llama-cpp-python 0.3.36 says it with <think></think> and JSON arguments.
#include "runtime/text/python_json.h"
#include "runtime/text/templates/renderer.h"

namespace moraine {
namespace {

struct Style {
  std::string_view no_thinking;  // what stands in the place of "<think>" when there is no thinking
  bool json_arguments;           // print tool arguments as JSON; else join them as strings
  bool empty_list_is_none;       // an empty list of tool calls counts as none
};

constexpr Style kPublished = {"</think>", false, false};
constexpr Style kLlamaCpp = {"<think></think>", true, true};

Status WriteToolCall(const RenderInput& input, const Style& style, size_t index, const ToolCall& call,
                     PartWriter* out) {
  out->Template("<｜tool▁call▁begin｜>");
  out->User(call.name);
  out->Template("<｜tool▁sep｜>");
  if (!style.json_arguments) {
    if (call.arguments_are_value) {
      return RefuseMessage(input, index, "tool call arguments must be a string for this chat template");
    }
    out->User(call.arguments);
  } else if (call.arguments_are_value) {
    auto dumped = PythonDumps(call.arguments);
    if (!dumped) return RefuseMessage(input, index, "tool call arguments: " + dumped.error().message);
    out->User(*dumped);
  } else {
    out->User(PythonQuote(call.arguments));
  }
  out->Template("<｜tool▁call▁end｜>");
  return {};
}

Status Render(const RenderInput& input, const Style& style, PartWriter* out) {
  MORAINE_RETURN_IF_ERROR(WriteSystemPrompts(input, out));
  const bool thinking = input.options.thinking;
  bool is_tool = false;
  bool is_last_user = false;
  for (size_t i = 0; i < input.messages.size(); ++i) {
    const Message& message = input.messages[i];
    if (message.role == "user") {
      MORAINE_ASSIGN_OR_RETURN(const std::string_view content, RequireContent(input, i));
      is_tool = false;
      is_last_user = true;
      out->Template("<｜User｜>");
      out->User(content);
    } else if (message.role == "assistant" && message.tool_calls.has_value() &&
               !(style.empty_list_is_none && message.tool_calls->empty())) {
      if (is_last_user) {
        out->Template("<｜Assistant｜>");
        out->Template(style.no_thinking);
      }
      is_last_user = is_tool = false;
      bool is_first = false;
      for (const ToolCall& call : *message.tool_calls) {
        if (!is_first) {
          if (message.content.has_value()) out->User(*message.content);
          out->Template("<｜tool▁calls▁begin｜>");
          is_first = true;
        }
        MORAINE_RETURN_IF_ERROR(WriteToolCall(input, style, i, call, out));
      }
      out->Template("<｜tool▁calls▁end｜><｜end▁of▁sentence｜>");
    } else if (message.role == "assistant") {
      MORAINE_ASSIGN_OR_RETURN(const std::string_view content, RequireContent(input, i));
      if (is_last_user) {
        out->Template("<｜Assistant｜>");
        out->Template(message.prefix && thinking ? "<think>" : style.no_thinking);
      }
      is_last_user = false;
      out->User(is_tool ? content : AfterFirstThink(content));
      is_tool = false;
      out->Template("<｜end▁of▁sentence｜>");
    } else if (message.role == "tool") {
      MORAINE_ASSIGN_OR_RETURN(const std::string_view content, RequireContent(input, i));
      is_last_user = false;
      is_tool = true;
      out->Template("<｜tool▁output▁begin｜>");
      out->User(content);
      out->Template("<｜tool▁output▁end｜>");
    }
  }
  if (input.options.add_generation_prompt && is_last_user && !is_tool) {
    out->Template("<｜Assistant｜>");
    out->Template(thinking ? "<think>" : style.no_thinking);
  }
  return {};
}

}  // namespace

Status RenderDeepSeekV31(const RenderInput& input, PartWriter* out) { return Render(input, kPublished, out); }

Status RenderDeepSeekV31LlamaCpp(const RenderInput& input, PartWriter* out) {
  return Render(input, kLlamaCpp, out);
}

}  // namespace moraine
