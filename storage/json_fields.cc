#include "storage/json_fields.h"

#include <fmt/core.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/core/printable.h"

namespace moraine {
namespace {

using nlohmann::json;

// The integer a value holds; a float that happens to be whole is not one.
std::optional<int64_t> AsInteger(const json& value) {
  if (const auto* number = value.get_ptr<const json::number_unsigned_t*>()) {
    if (*number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
    return static_cast<int64_t>(*number);
  }
  if (const auto* number = value.get_ptr<const json::number_integer_t*>()) return *number;
  return std::nullopt;
}

std::optional<int32_t> AsInt32(const json& value) {
  const std::optional<int64_t> integer = AsInteger(value);
  if (!integer || !std::in_range<int32_t>(*integer)) return std::nullopt;
  return static_cast<int32_t>(*integer);
}

std::optional<int32_t> AsToken(const json& value) {
  const std::optional<int32_t> token = AsInt32(value);
  return token && *token >= 0 ? token : std::nullopt;
}

std::string Shown(const json* value) {
  if (value == nullptr) return "missing";
  return Printable(value->dump(-1, ' ', false, json::error_handler_t::replace), 80);
}

}  // namespace

JsonFields::JsonFields(const json& object, std::string document, std::string prefix)
    : object_(&object), document_(std::move(document)), prefix_(std::move(prefix)) {
  if (!object.is_object()) {
    status_ =
        Fail(ErrorKind::kModel, fmt::format("{}: {}is {}; expected an object", document_,
                                            prefix_.empty() ? "the document " : prefix_, Shown(&object)));
  }
}

const json* JsonFields::Find(const char* name) const {
  const auto at = object_->find(name);  // end() when it is no object
  return at == object_->end() ? nullptr : &*at;
}

bool JsonFields::Given(const char* name) const {
  const json* value = Find(name);
  return value != nullptr && !value->is_null();
}

bool JsonFields::IsNull(const char* name) const {
  const json* value = Find(name);
  return value != nullptr && value->is_null();
}

bool JsonFields::IsTrue(const char* name) const {
  const json* value = Find(name);
  return value != nullptr && value->is_boolean() && value->get<bool>();
}

bool JsonFields::IsString(const char* name) const {
  const json* value = Find(name);
  return value != nullptr && value->is_string();
}

void JsonFields::Refuse(const char* name, const std::string& expected) {
  if (!ok()) return;
  status_ = Fail(ErrorKind::kModel, fmt::format("{}: {}{} is {}; expected {}", document_, prefix_, name,
                                                Shown(Find(name)), expected));
}

int64_t JsonFields::Integer(const char* name) {
  const json* value = Find(name);
  const std::optional<int64_t> integer = value == nullptr ? std::nullopt : AsInteger(*value);
  if (!integer) Refuse(name, "an integer");
  return integer.value_or(0);
}

int32_t JsonFields::Int32(const char* name) {
  const json* value = Find(name);
  const std::optional<int32_t> integer = value == nullptr ? std::nullopt : AsInt32(*value);
  if (!integer) Refuse(name, "an integer below 2^31");
  return integer.value_or(0);
}

int64_t JsonFields::Integer(const char* name, int64_t fallback) {
  return Given(name) ? Integer(name) : fallback;
}

int32_t JsonFields::Int32(const char* name, int32_t fallback) { return Given(name) ? Int32(name) : fallback; }

float JsonFields::Float(const char* name, float fallback) {
  if (!Given(name)) return fallback;
  const json& value = *Find(name);
  const double number = value.is_number() ? value.get<double>() : std::nan("");
  if (!(std::fabs(number) <= static_cast<double>(std::numeric_limits<float>::max()))) {
    Refuse(name, "a number that fits 32 bits");
    return fallback;
  }
  return static_cast<float>(number);
}

bool JsonFields::Bool(const char* name, bool fallback) {
  if (!Given(name)) return fallback;
  const auto* value = Find(name)->get_ptr<const bool*>();
  if (value == nullptr) Refuse(name, "true or false");
  return value == nullptr ? fallback : *value;
}

std::string JsonFields::String(const char* name, const std::string& fallback) {
  if (!Given(name)) return fallback;
  const auto* value = Find(name)->get_ptr<const std::string*>();
  if (value == nullptr) Refuse(name, "a string");
  return value == nullptr ? fallback : *value;
}

std::vector<int32_t> JsonFields::Tokens(const char* name) {
  std::vector<int32_t> tokens;
  if (!Given(name)) return tokens;
  const json& value = *Find(name);
  const auto take = [&](const json& token) {
    if (const std::optional<int32_t> id = AsToken(token)) {
      tokens.push_back(*id);
    } else {
      Refuse(name, "a token id or a list of them");
    }
  };
  if (value.is_array()) {
    for (const json& token : value) take(token);
  } else {
    take(value);
  }
  return tokens;
}

std::vector<std::string> JsonFields::Strings(const char* name) {
  std::vector<std::string> strings;
  if (!Given(name)) return strings;
  const json& value = *Find(name);
  if (!value.is_array()) Refuse(name, "a list of strings");
  if (!ok()) return strings;
  for (const json& item : value) {
    if (!item.is_string()) {
      Refuse(name, "a list of strings");
      break;
    }
    strings.push_back(item.get<std::string>());
  }
  return strings;
}

std::pair<int32_t, int32_t> JsonFields::Int32Pair(const char* name) {
  const json* value = Find(name);
  if (value != nullptr && value->is_array() && value->size() == 2) {
    const std::optional<int32_t> first = AsInt32((*value)[0]);
    const std::optional<int32_t> second = AsInt32((*value)[1]);
    if (first && second) return {*first, *second};
  }
  Refuse(name, "a list of two integers");
  return {};
}

const json* JsonFields::Object(const char* name) {
  if (!Given(name)) return nullptr;
  const json* value = Find(name);
  if (value->is_object()) return value;
  Refuse(name, "an object");
  return nullptr;
}

}  // namespace moraine
