#include "runtime/server/openai/tool_fields.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/core/printable.h"
#include "runtime/server/openai/json_slice.h"
#include "runtime/text/tool_call_parser.h"

namespace moraine {
namespace {

using nlohmann::json;

constexpr size_t kMostTools = 128;
constexpr const char* kNameForm = "expected 1 to 64 letters, digits, underscores, hyphens or dots";
constexpr const char* kNoParameters = R"({"type": "object", "properties": {}})";

// The object that has a function's name.
const json* FunctionOf(const json& tool, ToolDialect dialect) {
  if (dialect == ToolDialect::kResponses) return &tool;
  const auto found = tool.find("function");
  return found == tool.end() ? nullptr : &*found;
}

std::optional<Tool> ReadTool(Fields* fields, const json& value, size_t index, ToolDialect dialect) {
  const std::string name = fmt::format("tools[{}]", index);
  Fields outer(value, name);
  const std::string type = outer.String("type").value_or("");
  if (!outer.error() && type != "function") {
    fields->Refuse(
        name + ".type",
        fmt::format("\"{}\"; this server knows tools of type \"function\" alone", Printable(type, 40)),
        "unsupported_parameter");
    return std::nullopt;
  }
  const json* function = outer.error() ? nullptr : FunctionOf(value, dialect);
  if (function == nullptr) {
    fields->Refuse(name, outer.error() ? outer.error()->message : "has no function", "invalid_type");
    return std::nullopt;
  }
  Fields inner(*function, dialect == ToolDialect::kChat ? name + ".function" : name);
  Tool tool;
  tool.name = inner.String("name").value_or("");
  tool.description = inner.String("description").value_or("");
  tool.parameters = kNoParameters;
  inner.Bool("strict");
  const json* parameters = inner.Raw("parameters");
  if (parameters != nullptr && !parameters->is_object())
    inner.Refuse("parameters", "not an object", "invalid_type");
  if (!IsToolName(tool.name)) inner.Refuse("name", kNameForm);
  if (const auto& error = inner.error()) {
    fields->Fail(*error);
    return std::nullopt;
  }
  return tool;
}

// The parameters of every tool, as the request spells them.
void TakeParameters(std::string_view body, ToolDialect dialect, std::vector<Tool>* tools) {
  const std::vector<std::string_view> texts = ElementTexts(*MemberText(body, "tools"));
  for (size_t i = 0; i < tools->size(); ++i) {
    const auto function = dialect == ToolDialect::kChat ? *MemberText(texts[i], "function") : texts[i];
    const auto parameters = MemberText(function, "parameters");
    if (parameters && *parameters != "null") (*tools)[i].parameters = *parameters;
  }
}

void ReadTools(Fields* fields, ToolDialect dialect, std::string_view body, std::vector<Tool>* tools) {
  const json* list = fields->Raw("tools");
  if (list == nullptr) return;
  if (!list->is_array()) return fields->Refuse("tools", "not a list", "invalid_type");
  if (list->size() > kMostTools) return fields->Refuse("tools", fmt::format("more than {}", kMostTools));
  for (size_t i = 0; i < list->size(); ++i) {
    auto tool = ReadTool(fields, (*list)[i], i, dialect);
    if (!tool) return;
    if (std::ranges::any_of(*tools, [&](const Tool& one) { return one.name == tool->name; }))
      return fields->Refuse(fmt::format("tools[{}]", i), fmt::format("a second tool named {}", tool->name));
    tools->push_back(std::move(*tool));
  }
  if (!tools->empty()) TakeParameters(body, dialect, tools);
}

// The name in {"type": "function", "function": {"name"}} or {"type": "function", "name"}.
std::optional<std::string> ChosenName(const json& choice, ToolDialect dialect) {
  if (!choice.is_object() || choice.value("type", json()) != "function") return std::nullopt;
  const json* function = FunctionOf(choice, dialect);
  if (function == nullptr || !function->is_object()) return std::nullopt;
  const auto name = function->find("name");
  if (name == function->end() || !name->is_string()) return std::nullopt;
  return name->get<std::string>();
}

void ReadChoice(Fields* fields, ToolDialect dialect, ToolFields* read) {
  const json* choice = fields->Raw("tool_choice");
  if (choice == nullptr || *choice == "auto") return;
  if (*choice == "none") {
    read->tools.clear();
    return;
  }
  const auto name = ChosenName(*choice, dialect);
  if (!name && *choice != "required") {
    return fields->Refuse(
        "tool_choice",
        "expected \"auto\", \"none\", \"required\" or the name of one function; this server "
        "honours no other choice",
        "unsupported_parameter");
  }
  if (read->tools.empty()) return fields->Refuse("tool_choice", "demands a call, and there are no tools");
  if (!name) {
    read->begun_call = read->tools.size() == 1 ? read->tools.front().name : "";
    return;
  }
  if (std::ranges::none_of(read->tools, [&](const Tool& tool) { return tool.name == *name; }))
    return fields->Refuse("tool_choice", fmt::format("no tool is named \"{}\"", Printable(*name, 64)));
  read->begun_call = name;
}

}  // namespace

ToolFields ReadToolFields(Fields* fields, ToolDialect dialect, std::string_view body) {
  ToolFields read;
  ReadTools(fields, dialect, body, &read.tools);
  if (!fields->error()) ReadChoice(fields, dialect, &read);
  read.parallel = fields->Bool("parallel_tool_calls").value_or(true);
  return read;
}

}  // namespace moraine
