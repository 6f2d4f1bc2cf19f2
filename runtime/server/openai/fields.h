// Fields: the members of a JSON object, read with their types and ranges; what is wrong first is kept.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "runtime/server/openai/api_error.h"

namespace moraine {

/// The whole number that `value` is, however it is spelled (16, 16.0); nothing if it is none or is outside
/// [-2^63, 2^63).
std::optional<int64_t> WholeNumber(const nlohmann::json& value);

/// Every reader gives nothing for a member that is absent or null, and for one that is wrong, which error()
/// then names. Borrows the object. One thread.
class Fields {
 public:
  /// `where`: the object's own name in messages, "" for the request itself.
  Fields(const nlohmann::json& object, std::string where);

  std::optional<bool> Bool(const char* name);
  /// Whole numbers within [least, most].
  std::optional<int64_t> Int(const char* name, int64_t least, int64_t most);
  /// Finite numbers within [least, most].
  std::optional<double> Number(const char* name, double least, double most);
  std::optional<std::string> String(const char* name);
  /// The member as it is, nullptr if absent or null.
  const nlohmann::json* Raw(const char* name);
  /// Members that are known and mean nothing here.
  void Ignore(std::initializer_list<const char*> names);

  void Refuse(const std::string& name, const std::string& message, const std::string& code = "");
  /// What was wrong further in; its own name stands.
  void Fail(const ApiError& error);
  const std::optional<ApiError>& error() const { return error_; }
  /// Members nobody asked for.
  int64_t unknown() const;
  /// "stream_options.include_usage".
  std::string Name(const std::string& name) const;

 private:
  const nlohmann::json& object_;
  const std::string where_;
  std::set<std::string, std::less<>> known_;
  std::optional<ApiError> error_;
};

}  // namespace moraine
