// What JSON Schema says of a document, for the keywords that are kept; written apart from the compiler.
#pragma once

#include <nlohmann/json.hpp>

namespace moraine::test {

/// `strict`: objects that do not say have no additional members.
bool Validates(const nlohmann::ordered_json& schema, const nlohmann::ordered_json& root,
               const nlohmann::json& document, bool strict);

}  // namespace moraine::test
