// Whether no text satisfies two values of a grammar at once, as far as that is easily seen.
#pragma once

#include "runtime/grammar/grammar.h"

namespace moraine {

/// True only if it is certain: other types, other literals, or a member that one needs and the other refuses
/// or gives other values. Comparing takes from *budget; once that is spent nothing is certain. REQUIRES:
/// FinishGrammar.
bool AreDisjoint(const Grammar& grammar, ValueId a, ValueId b, int* budget);

}  // namespace moraine
