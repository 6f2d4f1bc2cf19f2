// The name somebody probably meant.
#pragma once

#include <span>
#include <string_view>

namespace moraine {

/// The name in `known` with the fewest letters changed, added, dropped or swapped; empty when that is more
/// than a third of `name`. The first of equals. Names over 64 letters have no nearest.
std::string_view NearestName(std::string_view name, std::span<const std::string_view> known);

}  // namespace moraine
