#include "policies/policy_resolve.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <utility>

namespace moraine {
namespace {

ResolvedKey Resolve(const PolicySources& sources, const PolicyKey& key) {
  const std::array<std::pair<const PolicyLayer*, PolicySource>, 4> order = {
      {{&sources.flags, PolicySource::kFlag},
       {&sources.environment, PolicySource::kEnvironment},
       {&sources.file, PolicySource::kFile},
       {&sources.defaults, PolicySource::kAutomatic}}};
  for (const auto& [layer, source] : order) {
    if (const PolicySetting* setting = layer->Find(key))
      return {&key, setting->value, source, setting->where};
  }
  return {.key = &key};
}

void Store(const ResolvedKey& resolved, Policy* policy) {
  std::visit(
      [&](auto* field) {
        using Value = typename std::remove_pointer_t<decltype(field)>::value_type;
        if (const auto* value = std::get_if<Value>(&resolved.value)) *field = *value;
      },
      resolved.key->field(*policy));
}

// Empty when the key needs nothing that is not there.
std::string Lacking(const ResolvedKey& resolved) {
  const PolicyKey& key = *resolved.key;
  if (key.gap == PolicyGap::kNone || std::holds_alternative<std::monostate>(resolved.value)) return "";
  if (!key.neutral.empty()) {
    const auto neutral = ParsePolicyValue(key, key.neutral);
    if (neutral.has_value() && *neutral == resolved.value) return "";
  }
  return fmt::format("{}: {} = {} needs {}, which this version lacks", resolved.where, key.Name(),
                     FormatPolicyValue(key, resolved.value), key.lacks);
}

// Without a planner a rule may only say what is so anyway.
Status CheckPlace(const PolicyLayer& file) {
  for (const PlaceRule& rule : file.place) {
    const Tier home = rule.tensor_class == TensorClass::kEmbed ? Tier::kNvme : Tier::kRam;
    if (rule.tensor_class != TensorClass::kRouted && rule.tier == home) continue;
    return Fail(ErrorKind::kUsage,
                fmt::format("{}: place puts {} into {}: that needs a planner, which this version lacks",
                            file.place_where, Name(rule.tensor_class), Name(rule.tier)));
  }
  return {};
}

}  // namespace

std::string_view Name(PolicySource source) {
  switch (source) {
    case PolicySource::kAutomatic:
      return "automatic";
    case PolicySource::kFile:
      return "file";
    case PolicySource::kEnvironment:
      return "environment";
    case PolicySource::kFlag:
      return "flag";
  }
  return "";
}

Result<ResolvedPolicy> ResolvePolicy(const PolicySources& sources) {
  ResolvedPolicy resolved;
  for (const PolicyKey& key : PolicyKeys()) {
    ResolvedKey& row = resolved.keys.emplace_back(Resolve(sources, key));
    Store(row, &resolved.policy);
    std::string lacking = Lacking(row);
    if (lacking.empty()) continue;
    if (key.gap == PolicyGap::kRefuse) return Fail(ErrorKind::kUsage, std::move(lacking));
    resolved.notices.push_back(std::move(lacking) + "; it changes nothing");
  }
  MORAINE_RETURN_IF_ERROR(CheckPlace(sources.file));
  resolved.policy.place = sources.file.place;
  resolved.policy.measured.figures = sources.file.figures;
  if (resolved.policy.cache.policy == "pinned" && !resolved.policy.cache.profile)
    return Fail(ErrorKind::kUsage, "cache.policy is \"pinned\", which needs cache.profile");
  return resolved;
}

std::string DescribePolicy(const ResolvedPolicy& resolved) {
  std::string text;
  for (const ResolvedKey& row : resolved.keys) {
    if (row.where.empty()) continue;
    text += fmt::format("{} {} = {}  ({})\n", text.empty() ? "policy   " : "         ", row.key->Name(),
                        FormatPolicyValue(*row.key, row.value), row.where);
  }
  return text;
}

}  // namespace moraine
