// What a request says of tools: which there are, and whether one must be called.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/server/openai/fields.h"
#include "runtime/text/chat_template.h"

namespace moraine {

struct ToolFields {
  std::vector<Tool> tools;                // none: none may be called
  std::optional<std::string> begun_call;  // as RenderOptions::begun_call
  bool parallel = true;                   // false: the answer ends with its first call
};

/// Where a function's members stand: in "function" (chat completions), or beside "type" (responses).
enum class ToolDialect { kChat, kResponses };

/// Reads tools, tool_choice and parallel_tool_calls; what is wrong stays in `fields`. `body` is the request's
/// text, which has passed ParseJson: parameters keep its spelling. Tools of other types than functions are
/// refused, and of tool_choice all but "auto", "none", "required" and one function's name. `strict` is not
/// enforced.
ToolFields ReadToolFields(Fields* fields, ToolDialect dialect, std::string_view body);

}  // namespace moraine
