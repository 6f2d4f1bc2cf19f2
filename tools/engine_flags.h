// The flags that every subcommand with an engine shares, and the engine made from them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/core/result.h"
#include "runtime/engine.h"
#include "tools/policy_source.h"

namespace CLI {
class App;
}

namespace moraine::tools {

struct EngineFlags {
  std::string model;
  bool serves = false;  // context.slots means something: sequences at once
  PolicyFlags policy;
};

/// Adds MODEL and the flags of policy_source.h. `flags` outlives the parse.
void AddEngineFlags(CLI::App& command, EngineFlags* flags);

/// Engine options from flags, environment and policy file: kUsage names what cannot be. Says on stderr what
/// was set and which of it changes nothing; shows a loading bar on a terminal.
Result<EngineOptions> MakeEngineOptions(const EngineFlags& flags);
/// The same; `resolved` gets what was decided and by whom.
Result<EngineOptions> MakeEngineOptions(const EngineFlags& flags, ResolvedPolicy* resolved);

/// How experts are read ahead.
PrefetchOptions PrefetchOf(const Policy::Prefetch& prefetch);

/// The uses that policy pinned goes by: those of the trace that cache.profile names. Nothing without one. kIo
/// names the file.
Status ApplyProfile(const Policy& policy, EngineOptions* options);

/// What of a policy the engine has options for today; the rest of `options` stays.
void ApplyPolicy(const Policy& policy, EngineOptions* options);

/// "5,17,3" -> ids. kUsage names what is not a decimal id.
Result<std::vector<int32_t>> ParseIds(const std::string& text, const std::string& what);
/// The ids of --prompt-ids or of the file behind --ids-file (commas or white space between them).
Result<std::vector<int32_t>> ReadIdsFile(const std::string& path);

}  // namespace moraine::tools
