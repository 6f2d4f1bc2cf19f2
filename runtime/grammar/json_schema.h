// JSON Schema (2020-12) to grammar, for a subset that is kept whole: what it cannot keep it refuses.
//
//   type                   one of the seven, or a list of them
//   properties, required   in the order they are written; additionalProperties: a schema, true or false
//   items, minItems, maxItems, minLength, maxLength
//   enum, const            of any values, spelled as short as can be, members in the order they are written
//   anyOf, oneOf           the branches of oneOf must differ by type, by a value, or by a member that one
//   needs $ref                   "#", "#/$defs/NAME", "#/definitions/NAME", recursive ones too true, false,
//   {}        anything, nothing, anything
// Notes (title, description, default, examples, deprecated, readOnly, writeOnly, discriminator, $comment,
// $schema, $id) mean nothing here. Beside enum and const only `type` may stand, beside anyOf, oneOf and $ref
// only notes, and what says something of a type needs `type` beside it.
#pragma once

#include <cstddef>
#include <memory>
#include <nlohmann/json_fwd.hpp>

#include "runtime/core/result.h"
#include "runtime/grammar/grammar.h"

namespace moraine {

constexpr size_t kMostSchemaBytes = size_t{64} << 10;
constexpr size_t kMostSchemaPlaces = 2000;  // schemas within the schema
constexpr size_t kMostBranches = 64;        // of one place, those of its branches included
constexpr uint32_t kMostCount = 100000;     // of minItems, maxItems, minLength, maxLength

struct SchemaOptions {
  /// Objects that do not say have no additional members.
  bool strict = false;
};

/// kUsage naming the place, as a JSON pointer, and the keyword: what is not of the subset, is over a limit,
/// or can be satisfied by no text of kMostLevels. Time grows with the schema, not with what it allows. Any
/// thread.
Result<std::shared_ptr<const Grammar>> CompileJsonSchema(const nlohmann::ordered_json& schema,
                                                         const SchemaOptions& options);

}  // namespace moraine
