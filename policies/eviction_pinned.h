// pinned: the order of a profile, whatever happens. Of keys with equal uses in it the lower stays longer.
#pragma once

#include <memory>
#include <span>

#include "policies/eviction.h"

namespace moraine {

/// `profile`: [keys] uses, finite and not negative; keys beyond it have none.
std::unique_ptr<Eviction> MakePinned(std::span<const float> profile, int32_t keys);

}  // namespace moraine
