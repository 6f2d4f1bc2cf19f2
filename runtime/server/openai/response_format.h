// response_format: which form an answer must have.
#pragma once

#include <memory>
#include <string_view>

#include "runtime/grammar/grammar.h"
#include "runtime/server/openai/fields.h"

namespace moraine {

/// Null for text of any form. `body` is the text of the request that `fields` were read from: the members of
/// a schema are taken in the order in which it has them. What is wrong stays in `fields`, with the place in
/// the schema.
std::shared_ptr<const Grammar> ReadResponseFormat(Fields* fields, std::string_view body);

}  // namespace moraine
