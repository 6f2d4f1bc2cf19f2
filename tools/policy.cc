// moraine policy: checks a policy file, shows a preset, lists the keys.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "policies/presets.h"
#include "policies/units.h"
#include "tools/commands.h"
#include "tools/policy_source.h"

namespace moraine::tools {
namespace {

using Json = nlohmann::ordered_json;

Json ValueJson(const PolicyValue& value) {
  return std::visit(
      [](const auto& held) -> Json {
        if constexpr (std::is_same_v<std::decay_t<decltype(held)>, std::monostate>) {
          return "auto";
        } else {
          return held;
        }
      },
      value);
}

// Sizes in bytes, times in seconds.
Json CheckJson(const std::string& name, const PolicyLayer& layer, const ResolvedPolicy& resolved) {
  Json keys = Json::object();
  for (const ResolvedKey& row : resolved.keys)
    if (!row.where.empty()) keys[row.key->Name()] = {{"value", ValueJson(row.value)}, {"where", row.where}};
  Json place = Json::array();
  for (const PlaceRule& rule : layer.place)
    place.push_back({{"class", Name(rule.tensor_class)},
                     {"first_layer", rule.first_layer},
                     {"last_layer", rule.last_layer},
                     {"tier", Name(rule.tier)}});
  return {{"schema", 1},    {"policy", name},           {"keys", keys},
          {"place", place}, {"figures", layer.figures}, {"notices", resolved.notices}};
}

Status Check(const std::string& name, bool json) {
  MORAINE_ASSIGN_OR_RETURN(const PolicyLayer layer, LoadPolicy(name));
  MORAINE_ASSIGN_OR_RETURN(const ResolvedPolicy resolved, ResolvePolicy({.file = layer}));
  if (json) {
    fmt::print("{}\n", CheckJson(name, layer, resolved).dump(-1, ' ', false, Json::error_handler_t::replace));
    return {};
  }
  fmt::print("{}", PolicyText(layer));
  for (const std::string& notice : resolved.notices) fmt::print(stderr, "moraine: {}\n", notice);
  return {};
}

Status Show(const std::string& name) {
  const Preset* preset = FindPreset(name);
  std::vector<std::string_view> names;
  for (const Preset& known : Presets()) names.push_back(known.name);
  if (preset == nullptr)
    return Fail(ErrorKind::kUsage, fmt::format("there is no preset \"{}\"{}", name, DidYouMean(name, names)));
  fmt::print("{}", preset->text);
  return {};
}

std::string Range(const PolicyKey& key) {
  switch (key.kind) {
    case PolicyKind::kSize:
      return "size";
    case PolicyKind::kTime:
      return "time";
    case PolicyKind::kCount:
      return fmt::format("{:.0f}..{:.0f}", key.least, key.most);
    case PolicyKind::kNumber:
      return fmt::format("{}..{}", key.least, key.most);
    case PolicyKind::kFlag:
      return "true|false";
    case PolicyKind::kWord:
      return fmt::format("{}", fmt::join(key.words, "|"));
    case PolicyKind::kText:
      return "text";
  }
  return "";
}

void Keys() {
  for (const PolicyKey& key : PolicyKeys()) {
    const char* gap = key.gap == PolicyGap::kNone     ? ""
                      : key.gap == PolicyGap::kNotice ? "no effect yet: needs "
                                                      : "not in this version: needs ";
    fmt::print("{:22} {}\n{:22} {}{}{}\n", key.Name(), key.meaning, "", Range(key),
               key.gap == PolicyGap::kNone ? "" : "; ", fmt::format("{}{}", gap, key.lacks));
  }
}

}  // namespace

void AddPolicy(CLI::App& app, int* exit_code) {
  struct Options {
    std::string name;
    bool json = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* policy = app.add_subcommand("policy", "Check a policy file, show a preset, list the keys");
  policy->require_subcommand(1);
  CLI::App* check = policy->add_subcommand("check", "Say what a policy file means, or what is wrong with it");
  check->add_option("FILE", options->name, "A policy file, or a preset")->required();
  check->add_flag("--json", options->json, "Print one JSON object: sizes in bytes, times in seconds");
  check->callback([options, exit_code] {
    const Status status = Check(options->name, options->json);
    *exit_code = status ? 0 : Report(status.error());
  });
  CLI::App* show = policy->add_subcommand("show", "Print a preset, to start a file of one's own from");
  show->add_option("PRESET", options->name, "latency, throughput or low-memory")->required();
  show->callback([options, exit_code] {
    const Status status = Show(options->name);
    *exit_code = status ? 0 : Report(status.error());
  });
  policy->add_subcommand("keys", "List every key: what it means, its range, what it lacks")->callback(Keys);
}

}  // namespace moraine::tools
