// Who decides: flag > environment > file > automatic, key by key.
#pragma once

#include <string>
#include <vector>

#include "policies/policy.h"
#include "policies/policy_file.h"
#include "runtime/core/result.h"

namespace moraine {

enum class PolicySource : uint8_t { kAutomatic, kFile, kEnvironment, kFlag };
std::string_view Name(PolicySource source);

struct PolicySources {
  PolicyLayer defaults;  // of the command, where nobody says anything
  PolicyLayer file;
  PolicyLayer environment;
  PolicyLayer flags;
};

/// One key with the value that counts. Automatic where nobody set it or the first who did said "auto".
struct ResolvedKey {
  const PolicyKey* key = nullptr;
  PolicyValue value;
  PolicySource source = PolicySource::kAutomatic;
  std::string where;  // empty: nobody set it
};

/// What the engine is handed. Keys that are automatic are empty in `policy`.
struct ResolvedPolicy {
  Policy policy;
  std::vector<ResolvedKey> keys;     // one a row of PolicyKeys(), in its order
  std::vector<std::string> notices;  // keys that change nothing in this version, a line each
};

/// Pure. kUsage, naming where it was set, for what this version cannot do (PolicyGap::kRefuse) and for keys
/// that contradict each other.
Result<ResolvedPolicy> ResolvePolicy(const PolicySources& sources);

/// What somebody set, a line each with its source; empty when nobody set anything.
std::string DescribePolicy(const ResolvedPolicy& resolved);

}  // namespace moraine
