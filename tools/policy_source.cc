#include "tools/policy_source.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <string_view>
#include <utility>

#include "policies/nearest_name.h"
#include "policies/presets.h"
#include "runtime/core/printable.h"
#include "tools/help_format.h"

namespace moraine::tools {
namespace {

Status SetKey(std::string_view name, std::string_view value, const std::string& where, PolicyLayer* layer) {
  const auto key = FindPolicyKey(name);
  if (!key)
    return tl::unexpected(Error{ErrorKind::kUsage, fmt::format("{}: {}", where, key.error().message)});
  auto parsed = ParsePolicyValue(**key, value);
  if (!parsed)
    return tl::unexpected(Error{ErrorKind::kUsage, fmt::format("{}: {}", where, parsed.error().message)});
  layer->Set({*key, std::move(*parsed), where});
  return {};
}

// "table.key=value".
Status SetPair(std::string_view text, const std::string& where, PolicyLayer* layer) {
  const size_t equals = text.find('=');
  if (equals == text.npos) {
    return Fail(ErrorKind::kUsage,
                fmt::format("{} is \"{}\"; expected table.key=value, such as cache.policy=lru", where,
                            Printable(text, 60)));
  }
  return SetKey(text.substr(0, equals), text.substr(equals + 1), where, layer);
}

Result<PolicyLayer> FlagLayer(const PolicyFlags& flags) {
  PolicyLayer layer;
  for (const std::string& pair : flags.set) MORAINE_RETURN_IF_ERROR(SetPair(pair, "--set", &layer));
  for (size_t i = 0; i < kPolicyFlags.size(); ++i) {
    if (!flags.values[i]) continue;
    MORAINE_ASSIGN_OR_RETURN(const PolicyKey* const key, FindPolicyKey(kPolicyFlags[i].key));
    if (layer.Find(*key) != nullptr)
      return Fail(ErrorKind::kUsage, fmt::format("{} is set by --set and by {}; give one",
                                                 kPolicyFlags[i].key, kPolicyFlags[i].flag));
    MORAINE_RETURN_IF_ERROR(SetKey(kPolicyFlags[i].key, *flags.values[i], kPolicyFlags[i].flag, &layer));
  }
  return layer;
}

Result<PolicyLayer> EnvironmentLayer(const Environment& environment) {
  PolicyLayer layer;
  const char* pairs = environment("MORAINE_SET");
  for (std::string_view rest = pairs == nullptr ? "" : pairs; !rest.empty();) {
    const size_t end = rest.find(';');
    if (const std::string_view pair = rest.substr(0, end); !pair.empty())
      MORAINE_RETURN_IF_ERROR(SetPair(pair, "MORAINE_SET", &layer));
    rest = end == rest.npos ? std::string_view() : rest.substr(end + 1);
  }
  for (const PolicyFlag& flag : kPolicyFlags) {
    const char* value = environment(flag.environment);
    if (value != nullptr && *value != '\0')
      MORAINE_RETURN_IF_ERROR(SetKey(flag.key, value, flag.environment, &layer));
  }
  return layer;
}

}  // namespace

void AddPolicyFlags(CLI::App& command, PolicyFlags* flags) {
  command.add_option("--policy", flags->policy,
                     "A policy file, or a preset: latency, throughput, low-memory");
  command
      .add_option("--set", flags->set,
                  "table.key=value of a policy; repeatable (moraine policy keys lists them)")
      ->allow_extra_args(false);
  for (size_t i = 0; i < kPolicyFlags.size(); ++i) {
    CLI::Option* option = command.add_option(kPolicyFlags[i].flag, flags->values[i], kPolicyFlags[i].help);
    if (kPolicyFlags[i].rare) option->group(kMoreFlags);
  }
}

Result<ResolvedPolicy> ResolveFlags(const PolicyFlags& flags, const Environment& environment) {
  PolicySources sources;
  for (const auto& [key, value] : flags.defaults)
    MORAINE_RETURN_IF_ERROR(SetKey(key, value, "", &sources.defaults));
  MORAINE_ASSIGN_OR_RETURN(sources.flags, FlagLayer(flags));
  MORAINE_ASSIGN_OR_RETURN(sources.environment, EnvironmentLayer(environment));
  std::string policy = flags.policy;
  const char* variable = environment("MORAINE_POLICY");
  if (policy.empty() && variable != nullptr) policy = variable;
  if (!policy.empty()) {
    MORAINE_ASSIGN_OR_RETURN(sources.file, LoadPolicy(policy));
  }
  return ResolvePolicy(sources);
}

Result<PolicyLayer> LoadPolicy(const std::string& name) {
  if (const Preset* preset = FindPreset(name); preset != nullptr) return ParsePolicy(preset->text, name);
  std::ifstream file(name, std::ios::binary);
  std::string text(kMostPolicyBytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  const bool read = file.eof() || (file && file.gcount() > 0);
  text.resize(static_cast<size_t>(file.gcount()));
  if (read) return ParsePolicy(text, name);
  std::vector<std::string_view> presets;
  for (const Preset& preset : Presets()) presets.push_back(preset.name);
  const std::string_view nearest = NearestName(name, presets);
  return Fail(ErrorKind::kUsage,
              fmt::format("policy {}: no file that can be read and no preset; presets are {}{}",
                          Printable(name, 200), fmt::join(presets, ", "),
                          nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest)));
}

}  // namespace moraine::tools
