// Where a policy comes from: a file or preset, --set, flags, and the MORAINE_ environment.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "policies/policy_resolve.h"
#include "runtime/core/result.h"

namespace CLI {
class App;
}

namespace moraine::tools {

/// A flag that sets one key.
struct PolicyFlag {
  const char* flag;
  const char* environment;
  const char* key;
  const char* help;
  bool rare = false;  // in --help-all only
};
inline constexpr std::array kPolicyFlags = {
    PolicyFlag{"--ctx", "MORAINE_CTX", "context.tokens",
               "Context in tokens (default: the model's, at most 8192)"},
    PolicyFlag{"--ram", "MORAINE_RAM", "memory.ram",
               "Ceiling on memory, e.g. 64GiB (default: what is available)"},
    PolicyFlag{"--vram", "MORAINE_VRAM", "memory.vram", "The same of the GPU's memory"},
    PolicyFlag{"--threads", "MORAINE_THREADS", "cpu.threads", "Worker threads (default: one per usable CPU)"},
    PolicyFlag{"--isa", "MORAINE_ISA", "cpu.isa",
               "Kernels: auto, amx, avx512-vbmi, avx512-vnni, avx512, avx2, scalar", true},
    PolicyFlag{"--switch-over", "MORAINE_SWITCH_OVER", "cpu.switch_over",
               "Rows from which on products go by tiles (default: measured, by format)", true},
    PolicyFlag{"--activations", "MORAINE_ACTIVATIONS", "cpu.activations",
               "auto, or f32: no product rounds its input to int8 or bf16", true},
    PolicyFlag{"--kv-type", "MORAINE_KV_TYPE", "context.kv_type", "KV cache: auto (bf16), bf16, fp8, f32"},
};

struct PolicyFlags {
  std::string policy;                                         // of --policy: a file or a preset's name
  std::vector<std::string> set;                               // of --set: "table.key=value"
  std::vector<std::pair<std::string, std::string>> defaults;  // keys this command sets where nobody does
  std::array<std::optional<std::string>, kPolicyFlags.size()> values;
};

/// Adds --policy, --set and kPolicyFlags. `flags` outlives the parse.
void AddPolicyFlags(CLI::App& command, PolicyFlags* flags);

/// The value of an environment variable, nullptr when it is not set.
using Environment = std::function<const char*(const char*)>;

/// Everything in its order: `flags`, then MORAINE_ variables (MORAINE_SET takes several settings, with
/// semicolons between), then the file of --policy or MORAINE_POLICY. kUsage names the flag, variable or place
/// in the file.
Result<ResolvedPolicy> ResolveFlags(const PolicyFlags& flags, const Environment& environment);

/// The layer of a file, or of a preset when `name` is one (write ./latency for a file of that name).
Result<PolicyLayer> LoadPolicy(const std::string& name);

}  // namespace moraine::tools
