// lfu: the key with most uses so far stays longest. Nothing ages, so a key that was hot once stays.
#pragma once

#include <memory>

#include "policies/eviction.h"

namespace moraine {

std::unique_ptr<Eviction> MakeLfu(int32_t keys);

}  // namespace moraine
