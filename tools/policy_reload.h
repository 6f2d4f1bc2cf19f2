// Which keys of a policy that was read again a running server can follow.
#pragma once

#include <string>
#include <vector>

#include "policies/policy_resolve.h"

namespace moraine::tools {

struct PolicyChange {
  const PolicyKey* key = nullptr;
  std::string from;  // as a policy file says it
  std::string to;
  bool live = false;  // false: needs a restart
};

/// Keys whose value is another, in the order of PolicyKeys(). Live are [serve] and [prefetch], but for
/// serve.prefix_disk from or to nothing. Pure.
std::vector<PolicyChange> PolicyChanges(const ResolvedPolicy& before, const ResolvedPolicy& after);

/// `before` with what is live of `after`.
ResolvedPolicy WithLiveChanges(const ResolvedPolicy& before, const ResolvedPolicy& after);

/// "policy read again: serve.queue = 8 (was 64); context.tokens = 8192 needs a restart (runs with 4096)".
std::string PolicyChangesText(const std::vector<PolicyChange>& changes);
/// {"changed": [{key, from, to}], "needs_restart": [{key, from, to}]}.
std::string PolicyChangesJson(const std::vector<PolicyChange>& changes);

}  // namespace moraine::tools
