// The published configurations of models that are known by name: to synthesise, and to ask about.
#pragma once

#include <string>
#include <string_view>

#include "runtime/core/result.h"

namespace moraine {

struct KnownModel {
  std::string config;  // its config.json
  std::string format;  // SynthOptions::format that its weights are published in
};

/// Of "deepseek-r1", "deepseek-v3", "v3.1", "v2-lite", "moonlight" or "kimi-k2". kUsage lists the names.
Result<KnownModel> FindKnownModel(std::string_view name);

/// The names, with commas between.
std::string KnownNames();

}  // namespace moraine
