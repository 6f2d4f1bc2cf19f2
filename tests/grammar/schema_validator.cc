#include "tests/grammar/schema_validator.h"

#include <algorithm>
#include <cmath>

namespace moraine::test {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

size_t CodePoints(const std::string& text) {
  return static_cast<size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }));
}

bool IsOfType(const json& document, const std::string& type) {
  if (type == "number") return document.is_number();
  if (type == "integer") {
    return document.is_number_integer() ||
           (document.is_number_float() && std::floor(document.get<double>()) == document.get<double>());
  }
  return document.type_name() == type;
}

bool TypeFits(const ordered_json& schema, const json& document) {
  if (!schema.contains("type")) return true;
  const ordered_json& type = schema["type"];
  if (type.is_string()) return IsOfType(document, type);
  return std::ranges::any_of(type, [&](const ordered_json& one) { return IsOfType(document, one); });
}

bool ObjectFits(const ordered_json& schema, const ordered_json& root, const json& document, bool strict) {
  for (const auto& name : schema.value("required", ordered_json::array())) {
    if (!document.contains(name.get<std::string>())) return false;
  }
  const ordered_json properties = schema.value("properties", ordered_json::object());
  const bool open = !strict || !schema.contains("type");
  const ordered_json additional = schema.value("additionalProperties", ordered_json(open));
  for (const auto& [name, value] : document.items()) {
    const ordered_json& inner = properties.contains(name) ? properties[name] : additional;
    if (!Validates(inner, root, value, strict)) return false;
  }
  return true;
}

}  // namespace

bool Validates(const ordered_json& schema, const ordered_json& root, const json& document, bool strict) {
  if (schema.is_boolean()) return schema.get<bool>();
  const auto fits = [&](const ordered_json& branch) { return Validates(branch, root, document, strict); };
  if (schema.contains("$ref")) {
    const std::string ref = schema["$ref"];
    if (!fits(ref == "#" ? root : root.at(ordered_json::json_pointer(ref.substr(1))))) return false;
  }
  if (schema.contains("anyOf") && std::ranges::none_of(schema["anyOf"], fits)) return false;
  if (schema.contains("oneOf") && std::ranges::count_if(schema["oneOf"], fits) != 1) return false;
  if (schema.contains("const") && json(schema["const"]) != document) return false;
  if (schema.contains("enum") &&
      std::ranges::none_of(schema["enum"], [&](const ordered_json& one) { return json(one) == document; }))
    return false;
  if (!TypeFits(schema, document)) return false;
  const auto within = [&](const char* least, const char* most, size_t count) {
    return count >= schema.value(least, size_t{0}) && count <= schema.value(most, SIZE_MAX);
  };
  if (document.is_string()) return within("minLength", "maxLength", CodePoints(document));
  if (document.is_array()) {
    const ordered_json items = schema.value("items", ordered_json(true));
    return within("minItems", "maxItems", document.size()) &&
           std::ranges::all_of(document,
                               [&](const json& one) { return Validates(items, root, one, strict); });
  }
  return !document.is_object() || ObjectFits(schema, root, document, strict);
}

}  // namespace moraine::test
