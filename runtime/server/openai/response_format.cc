#include "runtime/server/openai/response_format.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <string>

#include "runtime/core/ordered_json.h"
#include "runtime/core/printable.h"
#include "runtime/grammar/json_schema.h"
#include "runtime/server/openai/json_slice.h"

namespace moraine {
namespace {

// `body` has a schema.
Result<std::shared_ptr<const Grammar>> GrammarOf(std::string_view body, bool strict) {
  std::string_view text = body;
  for (const char* name : {"response_format", "json_schema", "schema"}) text = *MemberText(text, name);
  MORAINE_ASSIGN_OR_RETURN(const auto schema,
                           ParseOrderedJson(text, "response_format.json_schema.schema",
                                            {.max_values = kMostSchemaBytes, .max_bytes = kMostSchemaBytes}));
  return CompileJsonSchema(schema, {.strict = strict});
}

}  // namespace

std::shared_ptr<const Grammar> ReadResponseFormat(Fields* fields, std::string_view body) {
  const nlohmann::json* format = fields->Raw("response_format");
  if (format == nullptr) return nullptr;
  Fields inner(*format, "response_format");
  const std::string type = inner.String("type").value_or("text");
  const nlohmann::json* named = inner.Raw("json_schema");
  const auto refuse = [&](const char* name, const std::string& why, const std::string& code = "") {
    fields->Refuse(name, why, code);
    return nullptr;
  };
  if (inner.error()) return refuse("response_format", inner.error()->message, inner.error()->code);
  if (type == "text") return nullptr;
  if (type == "json_object") return AnyObjectGrammar();
  if (type != "json_schema") {
    return refuse("response_format.type",
                  fmt::format("\"{}\"; expected text, json_object or json_schema", Printable(type, 40)));
  }
  const nlohmann::json empty = nlohmann::json::object();
  Fields schema(named == nullptr ? empty : *named, "response_format.json_schema");
  schema.String("name");
  const bool strict = schema.Bool("strict").value_or(false);
  const bool has_schema = schema.Raw("schema") != nullptr;
  if (schema.error())
    return refuse("response_format.json_schema", schema.error()->message, schema.error()->code);
  if (!has_schema)
    return refuse("response_format.json_schema.schema", "missing; the schema of the answer",
                  "missing_required_parameter");
  auto grammar = GrammarOf(body, strict);
  if (!grammar.has_value())
    return refuse("response_format.json_schema.schema", grammar.error().message, "unsupported_schema");
  return *std::move(grammar);
}

}  // namespace moraine
