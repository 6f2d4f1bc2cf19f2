// The stretch of a prompt that tells the model of its tools, and the start of a call it has to make.
//
// Source: the section ToolCall of DeepSeek-V3.1's model card, word for word for kPlain. DeepSeek published no
// words for V3 and R1; they get these with the form of a call that their templates write.
#include <fmt/core.h>

#include "runtime/text/python_json.h"
#include "runtime/text/templates/renderer.h"
#include "runtime/text/tool_call_parser.h"

namespace moraine {
namespace {

// The model's part of a call, between its tags.
void WriteExample(ToolCallForm form, PartWriter* out) {
  out->Template(Spelling(ToolTag::kCallsBegin));
  out->Template(Spelling(ToolTag::kCallBegin));
  out->Template(form == ToolCallForm::kFenced ? "function" : "tool_call_name");
  out->Template(Spelling(ToolTag::kSep));
  out->Template(form == ToolCallForm::kFenced ? "tool_call_name\n```json\ntool_call_arguments\n```"
                                              : "tool_call_arguments");
  out->Template(Spelling(ToolTag::kCallEnd));
  out->Template("{additional_tool_calls}");
  out->Template(Spelling(ToolTag::kCallsEnd));
}

}  // namespace

Status WriteTools(std::span<const Tool> tools, ToolCallForm form, PartWriter* out) {
  out->Template("## Tools\nYou have access to the following tools:\n\n");
  for (const Tool& tool : tools) {
    const auto parameters = PythonDumps(tool.parameters);
    if (!parameters) {
      return Fail(ErrorKind::kUsage, fmt::format("tool {}: parameters: {}", tool.name.substr(0, 64),
                                                 parameters.error().message));
    }
    out->Template("### ");
    out->User(tool.name);
    out->Template("\nDescription: ");
    out->User(tool.description);
    out->Template("\n\nParameters: ");
    out->User(*parameters);
    out->Template("\n\n");
  }
  out->Template("IMPORTANT: ALWAYS adhere to this exact format for tool use:\n");
  WriteExample(form, out);
  out->Template(
      "\n\nWhere:\n"
      "- `tool_call_name` must be an exact match to one of the available tools\n"
      "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n"
      "- For multiple tool calls, chain them ");
  out->Template(form == ToolCallForm::kFenced ? "with a newline between them"
                                              : "directly without separators or spaces");
  return {};
}

void WriteBegunCall(ToolCallForm form, const std::string& name, PartWriter* out) {
  out->Template(Spelling(ToolTag::kCallsBegin));
  out->Template(Spelling(ToolTag::kCallBegin));
  if (form == ToolCallForm::kFenced) {
    out->Template("function");
    out->Template(Spelling(ToolTag::kSep));
    out->User(name);
    if (!name.empty()) out->Template("\n```json\n");
    return;
  }
  out->User(name);
  if (!name.empty()) out->Template(Spelling(ToolTag::kSep));
}

}  // namespace moraine
