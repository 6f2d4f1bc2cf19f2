// The flags that every subcommand with an engine shares, and the engine made from them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/core/result.h"
#include "runtime/engine.h"

namespace CLI {
class App;
}

namespace moraine::tools {

struct EngineFlags {
  std::string model;
  int64_t ctx = 0;
  std::string ram;
  int threads = 0;
  std::string isa = "auto";
  int switch_over = 0;
  std::string activations = "auto";
  std::string kv_type = "bf16";
};

/// Adds MODEL, --ctx, --ram, --threads, --isa, --switch-over, --activations and --kv-type, each with its
/// MORAINE_ environment variable. `flags` outlives the parse.
void AddEngineFlags(CLI::App& command, EngineFlags* flags);

/// Engine options from the flags: kUsage names the flag that cannot be. A loading bar is shown on a terminal.
Result<EngineOptions> MakeEngineOptions(const EngineFlags& flags);

/// "8GiB", "500MB", "123B" -> bytes. kUsage for a missing or unknown unit, a negative number, an overflow.
Result<int64_t> ParseSize(const std::string& text, const std::string& flag);

/// "5,17,3" -> ids. kUsage names what is not a decimal id.
Result<std::vector<int32_t>> ParseIds(const std::string& text, const std::string& what);
/// The ids of --prompt-ids or of the file behind --ids-file (commas or white space between them).
Result<std::vector<int32_t>> ReadIdsFile(const std::string& path);

}  // namespace moraine::tools
