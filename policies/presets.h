// Presets: policy files of policies/presets/, compiled in, that a user names without a path.
#pragma once

#include <span>
#include <string_view>

namespace moraine {

struct Preset {
  std::string_view name;
  std::string_view text;  // the file, comments and all
};

std::span<const Preset> Presets();
/// nullptr when there is none of that name.
const Preset* FindPreset(std::string_view name);

}  // namespace moraine
