// tools/policy_reload.h: what a running server can follow of another policy.
#include "tools/policy_reload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace moraine::tools {
namespace {

using ::testing::HasSubstr;

ResolvedPolicy Of(const std::string& toml) {
  PolicySources sources;
  auto layer = ParsePolicy("schema = 1\n" + toml, "p.toml");
  EXPECT_TRUE(layer.has_value()) << layer.error().message;
  sources.file = std::move(layer).value();
  auto resolved = ResolvePolicy(sources);
  EXPECT_TRUE(resolved.has_value()) << resolved.error().message;
  return std::move(resolved).value();
}

TEST(PolicyReload, TellsLiveKeysFromThoseThatNeedARestart) {
  const ResolvedPolicy before =
      Of("[serve]\nqueue = 8\n[context]\ntokens = 4096\n[prefetch]\nmode = \"off\"");
  const ResolvedPolicy after =
      Of("[serve]\nqueue = 9\ntemperature = 0.5\n[context]\ntokens = 8192\n[prefetch]\nmode = \"next-gate\"");
  const auto changes = PolicyChanges(before, after);
  ASSERT_EQ(changes.size(), 4u);
  const auto json = nlohmann::json::parse(PolicyChangesJson(changes));
  EXPECT_EQ(json["changed"].size(), 3u);
  ASSERT_EQ(json["needs_restart"].size(), 1u);
  EXPECT_EQ(json["needs_restart"][0],
            nlohmann::json({{"key", "context.tokens"}, {"from", "4096"}, {"to", "8192"}}));
  const std::string text = PolicyChangesText(changes);
  EXPECT_THAT(text, HasSubstr("serve.queue = 9 (was 8)"));
  EXPECT_THAT(text, HasSubstr("context.tokens = 8192 needs a restart (runs with 4096)"));
  EXPECT_THAT(text, HasSubstr("serve.temperature = 0.5 (was \"auto\")"));
}

TEST(PolicyReload, WhatNeedsARestartIsSaidUntilThereWasOne) {
  const ResolvedPolicy before = Of("[serve]\nqueue = 8\n[context]\ntokens = 4096");
  const ResolvedPolicy after = Of("[serve]\nqueue = 9\n[context]\ntokens = 8192");
  const ResolvedPolicy runs = WithLiveChanges(before, after);
  EXPECT_EQ(runs.policy.serve.queue, 9);
  EXPECT_EQ(runs.policy.context.tokens, 4096);
  const auto again = PolicyChanges(runs, after);
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].key->Name(), "context.tokens");
  EXPECT_FALSE(again[0].live);
  EXPECT_TRUE(PolicyChanges(runs, WithLiveChanges(runs, runs)).empty());
}

TEST(PolicyReload, TheCapMayChangeButTheCacheNotComeOrGo) {
  const ResolvedPolicy none = Of("");
  const ResolvedPolicy small = Of("[serve]\nprefix_disk = \"1GiB\"");
  const ResolvedPolicy large = Of("[serve]\nprefix_disk = \"2GiB\"");
  EXPECT_TRUE(PolicyChanges(small, large).at(0).live);
  EXPECT_EQ(WithLiveChanges(small, large).policy.serve.prefix_disk, int64_t{2} << 30);
  EXPECT_FALSE(PolicyChanges(none, large).at(0).live);
  EXPECT_EQ(WithLiveChanges(none, large).policy.serve.prefix_disk, std::nullopt);
  EXPECT_FALSE(PolicyChanges(small, none).at(0).live);
  EXPECT_EQ(WithLiveChanges(small, none).policy.serve.prefix_disk, int64_t{1} << 30);
}

}  // namespace
}  // namespace moraine::tools
