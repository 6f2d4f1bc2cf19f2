#include "tools/policy_reload.h"

#include <fmt/core.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <variant>

namespace moraine::tools {
namespace {

bool Some(const PolicyValue& bytes) {
  const auto* value = std::get_if<int64_t>(&bytes);
  return value != nullptr && *value > 0;
}

bool IsLive(const PolicyKey& key, const PolicyValue& from, const PolicyValue& to) {
  if (key.Name() == "serve.prefix_disk") return Some(from) && Some(to);
  return key.table == "serve" || key.table == "prefetch";
}

}  // namespace

std::vector<PolicyChange> PolicyChanges(const ResolvedPolicy& before, const ResolvedPolicy& after) {
  std::vector<PolicyChange> changes;
  for (size_t i = 0; i < before.keys.size(); ++i) {
    const PolicyKey& key = *before.keys[i].key;
    const PolicyValue& from = before.keys[i].value;
    const PolicyValue& to = after.keys[i].value;
    if (from == to) continue;
    changes.push_back(
        {&key, FormatPolicyValue(key, from), FormatPolicyValue(key, to), IsLive(key, from, to)});
  }
  return changes;
}

ResolvedPolicy WithLiveChanges(const ResolvedPolicy& before, const ResolvedPolicy& after) {
  ResolvedPolicy result = before;
  for (size_t i = 0; i < before.keys.size(); ++i) {
    if (IsLive(*before.keys[i].key, before.keys[i].value, after.keys[i].value))
      result.keys[i] = after.keys[i];
  }
  const auto cap = result.policy.serve.prefix_disk;
  const bool cap_is_live = cap.value_or(0) > 0 && after.policy.serve.prefix_disk.value_or(0) > 0;
  result.policy.prefetch = after.policy.prefetch;
  result.policy.serve = after.policy.serve;
  if (!cap_is_live) result.policy.serve.prefix_disk = cap;
  return result;
}

std::string PolicyChangesText(const std::vector<PolicyChange>& changes) {
  if (changes.empty()) return "policy read again: nothing has changed";
  std::string text;
  for (const PolicyChange& change : changes) {
    text += text.empty() ? "policy read again: " : "; ";
    text +=
        fmt::format(fmt::runtime(change.live ? "{} = {} (was {})" : "{} = {} needs a restart (runs with {})"),
                    change.key->Name(), change.to, change.from);
  }
  return text;
}

std::string PolicyChangesJson(const std::vector<PolicyChange>& changes) {
  nlohmann::ordered_json json = {{"changed", nlohmann::ordered_json::array()},
                                 {"needs_restart", nlohmann::ordered_json::array()}};
  for (const PolicyChange& change : changes) {
    json[change.live ? "changed" : "needs_restart"].push_back(
        {{"key", change.key->Name()}, {"from", change.from}, {"to", change.to}});
  }
  return json.dump();
}

}  // namespace moraine::tools
