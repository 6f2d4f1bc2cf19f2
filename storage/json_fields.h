// Typed reading of the fields of one JSON object, so that a wrong configuration is named field by field.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "runtime/core/result.h"

namespace moraine {

/// Reads fields until the first that is wrong; from then on every call returns its default and status() says
/// which field it was ("config.json: hidden_size is "7168"; expected an integer"). So a caller reads all
/// fields in a row and asks status() once. Borrows the object.
class JsonFields {
 public:
  /// `document` names the file and `prefix` stands before field names ("rope_scaling."). `object` may be of
  /// any type: only an object has fields.
  JsonFields(const nlohmann::json& object, std::string document, std::string prefix = "");

  /// Absent fields and null both count as not given.
  bool Given(const char* name) const;
  bool IsNull(const char* name) const;
  /// For fields of more than one type: exactly true; a string.
  bool IsTrue(const char* name) const;
  bool IsString(const char* name) const;

  /// Required: not given is an error.
  int64_t Integer(const char* name);
  int32_t Int32(const char* name);

  /// Not given: `fallback`.
  int64_t Integer(const char* name, int64_t fallback);
  int32_t Int32(const char* name, int32_t fallback);
  float Float(const char* name, float fallback);
  bool Bool(const char* name, bool fallback);
  std::string String(const char* name, const std::string& fallback);

  /// One token id or a list of them, each 0 or above. Not given: empty.
  std::vector<int32_t> Tokens(const char* name);
  /// A list of strings. Not given: empty.
  std::vector<std::string> Strings(const char* name);
  /// A pair of integers, required.
  std::pair<int32_t, int32_t> Int32Pair(const char* name);
  /// The object in a field; null when not given or refused.
  const nlohmann::json* Object(const char* name);

  /// Refuses the field's value, as found.
  void Refuse(const char* name, const std::string& expected);

  const Status& status() const { return status_; }
  bool ok() const { return status_.has_value(); }

 private:
  const nlohmann::json* Find(const char* name) const;

  const nlohmann::json* object_;
  std::string document_;
  std::string prefix_;
  Status status_;
};

}  // namespace moraine
