#include "runtime/server/openai/fields.h"

#include <fmt/core.h>

#include <cmath>
#include <limits>

#include "runtime/core/printable.h"

namespace moraine {
namespace {

// A value as a message shows it.
std::string Shown(const nlohmann::json& value) {
  if (value.is_structured()) return value.is_array() ? "a list" : "an object";
  return Printable(value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), 60);
}

}  // namespace

std::optional<int64_t> WholeNumber(const nlohmann::json& value) {
  constexpr auto kMost = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    return number <= kMost ? std::optional(static_cast<int64_t>(number)) : std::nullopt;
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  // The parser makes what has no 64 bits a float, and -2^63 of what is just below it.
  const auto real = value.get<double>();
  const bool whole = real > -0x1p63 && real < 0x1p63 && std::floor(real) == real;
  return whole ? std::optional(static_cast<int64_t>(real)) : std::nullopt;
}

Fields::Fields(const nlohmann::json& object, std::string where) : object_(object), where_(std::move(where)) {
  if (object_.is_object()) return;
  error_ = ApiError{.code = "invalid_type",
                    .param = where_,
                    .message = fmt::format("{} is {}; expected an object",
                                           where_.empty() ? "the request" : where_, Shown(object_))};
}

std::string Fields::Name(const std::string& name) const {
  return where_.empty() ? name : where_ + "." + name;
}

void Fields::Refuse(const std::string& name, const std::string& message, const std::string& code) {
  if (error_) return;
  error_ = ApiError{.code = code.empty() ? "invalid_value" : code,
                    .param = Name(name),
                    .message = fmt::format("{}: {}", Name(name), message)};
}

void Fields::Fail(const ApiError& error) {
  if (!error_) error_ = error;
}

const nlohmann::json* Fields::Raw(const char* name) {
  if (!object_.is_object()) return nullptr;
  const auto found = object_.find(name);
  if (found == object_.end()) return nullptr;
  known_.emplace(name);
  return found->is_null() ? nullptr : &*found;
}

void Fields::Ignore(std::initializer_list<const char*> names) {
  for (const char* name : names) Raw(name);
}

std::optional<bool> Fields::Bool(const char* name) {
  const nlohmann::json* value = Raw(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_boolean()) return value->get<bool>();
  Refuse(name, fmt::format("{} is not true or false", Shown(*value)), "invalid_type");
  return std::nullopt;
}

std::optional<int64_t> Fields::Int(const char* name, int64_t least, int64_t most) {
  const nlohmann::json* value = Raw(name);
  if (value == nullptr) return std::nullopt;
  const auto number = WholeNumber(*value);
  if (number && *number >= least && *number <= most) return number;
  Refuse(name, fmt::format("{} is not a whole number from {} to {}", Shown(*value), least, most),
         value->is_number() ? "" : "invalid_type");
  return std::nullopt;
}

std::optional<double> Fields::Number(const char* name, double least, double most) {
  const nlohmann::json* value = Raw(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_number()) {
    const auto number = value->get<double>();
    if (number >= least && number <= most) return number;
  }
  Refuse(name, fmt::format("{} is not a number from {} to {}", Shown(*value), least, most),
         value->is_number() ? "" : "invalid_type");
  return std::nullopt;
}

std::optional<std::string> Fields::String(const char* name) {
  const nlohmann::json* value = Raw(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->get<std::string>();
  Refuse(name, fmt::format("{} is not a string", Shown(*value)), "invalid_type");
  return std::nullopt;
}

int64_t Fields::unknown() const {
  if (!object_.is_object()) return 0;
  return static_cast<int64_t>(object_.size()) - static_cast<int64_t>(known_.size());
}

}  // namespace moraine
