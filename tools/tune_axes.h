// The keys of a policy that are worth searching, with the values worth trying. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "policies/policy.h"
#include "policies/policy_keys.h"
#include "tools/tune_search.h"

namespace moraine::tools {

/// What decides which keys matter.
struct TuneScene {
  bool streamed = false;         // experts are read while the model runs
  int workers = 1;               // that run by default
  int hardware_threads = 1;      // at most so many
  int64_t longest_prompt = 256;  // prompts in larger chunks than this are the same
};

struct TuneKey {
  TuneAxis axis;
  const PolicyKey* key = nullptr;
  std::vector<PolicyValue> values;  // [axis.values]; monostate at axis.automatic
};

/// The most promising first. A value of `policy` that is not on a key's list takes its place among the
/// others.
std::vector<TuneKey> TuneKeys(const Policy& policy, const TuneScene& scene);

/// `policy` with the values of `point`.
Policy PolicyAt(const Policy& policy, const std::vector<TuneKey>& keys, const TunePoint& point);

}  // namespace moraine::tools
