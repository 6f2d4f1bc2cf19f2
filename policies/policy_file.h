// A policy file: TOML with `schema = 1`, tables of keys (policy_keys.h), [[place]] rules and
// [measured.figures].
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "policies/policy_keys.h"
#include "runtime/core/result.h"

namespace moraine {

/// One key that somebody set, and where: "my.toml:12:3", "--set", "MORAINE_RAM".
struct PolicySetting {
  const PolicyKey* key = nullptr;
  PolicyValue value;
  std::string where;
};

/// What one source sets: a file, the environment or the flags. No key twice.
struct PolicyLayer {
  std::vector<PolicySetting> settings;
  std::vector<PlaceRule> place;
  std::string place_where;                // of the first rule
  std::map<std::string, double> figures;  // [measured.figures]

  const PolicySetting* Find(const PolicyKey& key) const;
  /// Sets `key`, in the place of an earlier setting of it.
  void Set(PolicySetting setting);
};

/// Bounds a file must keep, checked before it is parsed.
constexpr size_t kMostPolicyBytes = 256 * 1024;
constexpr size_t kMostPolicyLine = 4096;

/// Reads the text of a policy file called `name`. kUsage as "name:line:column: what, and what was expected":
/// text over the bounds, NUL bytes, what is no TOML, another schema, tables and keys that are not known (with
/// the nearest name), values of the wrong kind or out of range. Linear; any thread.
Result<PolicyLayer> ParsePolicy(std::string_view text, const std::string& name);

/// The file that ParsePolicy reads as `layer`.
std::string PolicyText(const PolicyLayer& layer);

}  // namespace moraine
