// policies/policy_resolve.h: who decides, what this version refuses, and what it says about the rest.
#include "policies/policy_resolve.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "policies/presets.h"

namespace moraine {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

PolicyLayer Layer(const std::string& name, const std::string& text, const std::string& where) {
  PolicyLayer layer;
  const auto key = FindPolicyKey(name);
  EXPECT_TRUE(key.has_value());
  const auto value = ParsePolicyValue(**key, text);
  EXPECT_TRUE(value.has_value()) << value.error().message;
  layer.Set({*key, *value, where});
  return layer;
}

const ResolvedKey& Row(const ResolvedPolicy& resolved, std::string_view name) {
  for (const ResolvedKey& row : resolved.keys)
    if (row.key->Name() == name) return row;
  ADD_FAILURE() << name;
  return resolved.keys.front();
}

TEST(ResolvePolicy, FlagBeatsEnvironmentBeatsFileBeatsAutomatic) {
  PolicySources sources;
  auto resolved = ResolvePolicy(sources);
  ASSERT_TRUE(resolved.has_value());
  EXPECT_FALSE(resolved->policy.cpu.threads.has_value());
  EXPECT_EQ(Row(*resolved, "cpu.threads").source, PolicySource::kAutomatic);
  EXPECT_EQ(DescribePolicy(*resolved), "");

  sources.file = Layer("cpu.threads", "2", "f.toml:3:1");
  resolved = ResolvePolicy(sources);
  EXPECT_EQ(resolved->policy.cpu.threads, 2);
  EXPECT_EQ(Row(*resolved, "cpu.threads").source, PolicySource::kFile);

  sources.environment = Layer("cpu.threads", "3", "MORAINE_THREADS");
  resolved = ResolvePolicy(sources);
  EXPECT_EQ(resolved->policy.cpu.threads, 3);
  EXPECT_EQ(Row(*resolved, "cpu.threads").source, PolicySource::kEnvironment);

  sources.flags = Layer("cpu.threads", "4", "--threads");
  resolved = ResolvePolicy(sources);
  EXPECT_EQ(resolved->policy.cpu.threads, 4);
  EXPECT_EQ(Row(*resolved, "cpu.threads").source, PolicySource::kFlag);
  EXPECT_EQ(DescribePolicy(*resolved), "policy    cpu.threads = 4  (--threads)\n");

  sources.flags = Layer("cpu.threads", "auto", "--threads");
  resolved = ResolvePolicy(sources);
  EXPECT_FALSE(resolved->policy.cpu.threads.has_value()) << "a flag can take back what a file says";
  EXPECT_EQ(Row(*resolved, "cpu.threads").source, PolicySource::kFlag);
}

TEST(ResolvePolicy, ACommandsDefaultsGiveWayToAnybody) {
  PolicySources sources;
  sources.defaults = Layer("context.kv_type", "f32", "");
  auto resolved = ResolvePolicy(sources);
  EXPECT_EQ(resolved->policy.context.kv_type, "f32");
  EXPECT_EQ(DescribePolicy(*resolved), "") << "nobody set it";
  sources.flags = Layer("context.kv_type", "auto", "--kv-type");
  resolved = ResolvePolicy(sources);
  EXPECT_FALSE(resolved->policy.context.kv_type.has_value());
}

TEST(ResolvePolicy, KeysDoNotHideOneAnother) {
  PolicySources sources;
  sources.file = Layer("memory.ram", "8GiB", "f");
  sources.flags = Layer("context.tokens", "100", "--ctx");
  const auto resolved = ResolvePolicy(sources);
  ASSERT_TRUE(resolved.has_value());
  EXPECT_EQ(resolved->policy.memory.ram, int64_t{8} << 30);
  EXPECT_EQ(resolved->policy.context.tokens, 100);
}

TEST(ResolvePolicy, EveryKeyReachesItsOwnField) {
  std::vector<const void*> fields;
  Policy policy;
  for (const PolicyKey& key : PolicyKeys()) {
    const PolicyField field = key.field(policy);
    fields.push_back(std::visit([](auto* at) { return static_cast<const void*>(at); }, field));
    const bool fits = key.kind == PolicyKind::kSize || key.kind == PolicyKind::kCount
                          ? std::holds_alternative<std::optional<int64_t>*>(field)
                      : key.kind == PolicyKind::kTime || key.kind == PolicyKind::kNumber
                          ? std::holds_alternative<std::optional<double>*>(field)
                      : key.kind == PolicyKind::kFlag
                          ? std::holds_alternative<std::optional<bool>*>(field)
                          : std::holds_alternative<std::optional<std::string>*>(field);
    EXPECT_TRUE(fits) << key.Name();
  }
  std::sort(fields.begin(), fields.end());
  EXPECT_EQ(std::adjacent_find(fields.begin(), fields.end()), fields.end()) << "two keys share a field";
}

TEST(ResolvePolicy, WhatCannotBeDoneIsRefusedOrSaid) {
  for (const PolicyKey& key : PolicyKeys()) {
    if (key.gap == PolicyGap::kNone) continue;
    SCOPED_TRACE(key.Name());
    if (!key.neutral.empty()) {
      PolicySources sources;
      sources.file = Layer(key.Name(), std::string(key.neutral), "f:1:1");
      const auto resolved = ResolvePolicy(sources);
      ASSERT_TRUE(resolved.has_value()) << resolved.error().message;
      EXPECT_THAT(resolved->notices, IsEmpty());
    }
    const std::string most = key.kind == PolicyKind::kWord   ? std::string(key.words.back())
                             : key.kind == PolicyKind::kFlag ? "true"
                             : key.kind == PolicyKind::kSize ? "1MiB"
                             : key.kind == PolicyKind::kTime ? "1s"
                             : key.kind == PolicyKind::kText ? "x"
                                                             : "1";
    if (most == key.neutral || key.Name() == "context.slots" || key.Name() == "cache.policy") continue;
    PolicySources sources;
    sources.file = Layer(key.Name(),
                         key.Name() == "memory.hugepages" ? "on"
                         : key.Name() == "cpu.bind"       ? "none"
                                                          : most,
                         "f:1:1");
    const auto resolved = ResolvePolicy(sources);
    if (key.gap == PolicyGap::kRefuse) {
      ASSERT_FALSE(resolved.has_value());
      EXPECT_EQ(resolved.error().kind, ErrorKind::kUsage);
      EXPECT_THAT(resolved.error().message, HasSubstr("f:1:1"));
      EXPECT_THAT(resolved.error().message, HasSubstr("which this version lacks"));
    } else {
      ASSERT_TRUE(resolved.has_value()) << resolved.error().message;
      EXPECT_THAT(resolved->notices, ElementsAre(HasSubstr("it changes nothing")));
    }
  }
}

TEST(ResolvePolicy, RulesOfPlaceThatNeedAPlannerAreRefused) {
  PolicySources sources;
  sources.file.place = {{TensorClass::kShared, 0, INT32_MAX, Tier::kRam}};
  EXPECT_TRUE(ResolvePolicy(sources).has_value()) << "it is so anyway";
  sources.file.place.push_back({TensorClass::kRouted, 3, 60, Tier::kVram});
  sources.file.place_where = "f:4:1";
  const auto resolved = ResolvePolicy(sources);
  ASSERT_FALSE(resolved.has_value());
  EXPECT_THAT(resolved.error().message, HasSubstr("f:4:1: place puts routed into vram"));
}

TEST(ResolvePolicy, PinnedNeedsAProfile) {
  PolicySources sources;
  sources.flags = Layer("cache.policy", "pinned", "--set");
  EXPECT_THAT(ResolvePolicy(sources).error().message, HasSubstr("needs cache.profile"));
}

TEST(ResolvePolicy, PresetsAskForNothingThatIsRefused) {
  for (const Preset& preset : Presets()) {
    PolicySources sources;
    sources.file = *ParsePolicy(preset.text, std::string(preset.name));
    EXPECT_TRUE(ResolvePolicy(sources).has_value()) << preset.name;
  }
}

TEST(EvictionOf, TakesWhatIsSetAndKeepsTheRest) {
  Policy::Cache cache{.policy = "lru", .half_life = 99};
  const EvictionOptions options = EvictionOf(cache);
  EXPECT_EQ(options.policy, "lru");
  EXPECT_EQ(options.half_life, 99);
  EXPECT_EQ(options.hysteresis, EvictionOptions().hysteresis);
  // The ranges of the file and of the policy are one.
  EXPECT_TRUE(CheckEviction(options).has_value());
}

TEST(PolicyKeys, FlagsAndFilesReadTheSameValues) {
  const auto value = [](const char* name, const char* text) {
    return ParsePolicyValue(**FindPolicyKey(name), text);
  };
  EXPECT_EQ(value("io.depth", "4"), PolicyValue(int64_t{4}));
  EXPECT_EQ(value("io.direct", "false"), PolicyValue(false));
  EXPECT_EQ(value("cache.hysteresis", "0.5"), PolicyValue(0.5));
  EXPECT_EQ(value("memory.ram", "auto"), PolicyValue());
  EXPECT_EQ(value("measured.date", "auto"), PolicyValue("auto")) << "a text is a text";
  for (const auto& [name, text] :
       std::vector<std::pair<const char*, const char*>>{{"io.depth", "four"},
                                                        {"io.depth", "4x"},
                                                        {"io.depth", ""},
                                                        {"io.depth", "99999999999999999999"},
                                                        {"io.direct", "1"},
                                                        {"cache.hysteresis", "x"},
                                                        {"cache.hysteresis", "nan"},
                                                        {"memory.ram", "8"},
                                                        {"cpu.isa", "mmx"},
                                                        {"measured.date", ""}}) {
    const auto bad = value(name, text);
    ASSERT_FALSE(bad.has_value()) << name << " " << text;
    EXPECT_THAT(bad.error().message, HasSubstr(name));
  }
  EXPECT_THAT(FindPolicyKey("cache.polcy").error().message, HasSubstr("did you mean cache.policy?"));
  EXPECT_THAT(FindPolicyKey("zzz").error().message, HasSubstr("moraine policy keys"));
}

}  // namespace
}  // namespace moraine
