// lru: the key that was used last stays longest.
#pragma once

#include <memory>

#include "policies/eviction.h"

namespace moraine {

std::unique_ptr<Eviction> MakeLru(int32_t keys);

}  // namespace moraine
