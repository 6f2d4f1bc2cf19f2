// tools/policy_source.h: flags, environment and files in their order, and what each says when it is wrong.
#include "tools/policy_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/support/temp_folder.h"

namespace moraine::tools {
namespace {

using ::testing::HasSubstr;

Environment Fake(std::map<std::string, std::string> variables) {
  auto held = std::make_shared<std::map<std::string, std::string>>(std::move(variables));
  return [held](const char* name) -> const char* {
    const auto found = held->find(name);
    return found == held->end() ? nullptr : found->second.c_str();
  };
}

PolicyFlags Flag(std::string_view flag, const std::string& value) {
  PolicyFlags flags;
  for (size_t i = 0; i < kPolicyFlags.size(); ++i)
    if (kPolicyFlags[i].flag == flag) flags.values[i] = value;
  return flags;
}

TEST(ResolveFlags, FlagEnvironmentFile) {
  const test::TempFolder folder;
  test::WriteFile(folder / "p.toml",
                  "schema = 1\n[cpu]\nthreads = 2\nisa = \"scalar\"\n[context]\ntokens = 99\n");
  PolicyFlags flags = Flag("--threads", "4");
  flags.policy = folder / "p.toml";
  const auto resolved =
      ResolveFlags(flags, Fake({{"MORAINE_THREADS", "3"}, {"MORAINE_ISA", "avx2"}, {"MORAINE_RAM", ""}}));
  ASSERT_TRUE(resolved.has_value()) << resolved.error().message;
  EXPECT_EQ(resolved->policy.cpu.threads, 4);
  EXPECT_EQ(resolved->policy.cpu.isa, "avx2");
  EXPECT_EQ(resolved->policy.context.tokens, 99);
  EXPECT_FALSE(resolved->policy.memory.ram.has_value()) << "an empty variable says nothing";
  EXPECT_THAT(DescribePolicy(*resolved), HasSubstr("cpu.threads = 4  (--threads)"));
  EXPECT_THAT(DescribePolicy(*resolved), HasSubstr("cpu.isa = \"avx2\"  (MORAINE_ISA)"));
  EXPECT_THAT(DescribePolicy(*resolved), HasSubstr("p.toml:6:1)"));
}

TEST(ResolveFlags, SetWorksInFlagsAndEnvironment) {
  PolicyFlags flags;
  flags.set = {"io.depth=4", "io.depth=8", "cache.policy=lru"};
  const auto resolved =
      ResolveFlags(flags, Fake({{"MORAINE_SET", "io.retry=7;;io.depth=3;"}, {"MORAINE_POLICY", "latency"}}));
  ASSERT_TRUE(resolved.has_value()) << resolved.error().message;
  EXPECT_EQ(resolved->policy.io.depth, 8) << "the last of a key";
  EXPECT_EQ(resolved->policy.io.retry, 7);
  EXPECT_EQ(resolved->policy.cache.policy, "lru");
  EXPECT_EQ(resolved->policy.prefetch.mode, "next-gate") << "of the preset";
}

TEST(ResolveFlags, EveryFlagSetsItsKey) {
  for (const PolicyFlag& flag : kPolicyFlags) {
    const std::string value = std::string(flag.flag) == "--vram" ? "0B" : "auto";
    EXPECT_TRUE(ResolveFlags(Flag(flag.flag, value), Fake({})).has_value()) << flag.flag;
    EXPECT_TRUE(ResolveFlags({}, Fake({{flag.environment, value}})).has_value()) << flag.flag;
    const auto flagged = ResolveFlags(Flag(flag.flag, "~"), Fake({}));
    ASSERT_FALSE(flagged.has_value()) << flag.flag;
    EXPECT_THAT(flagged.error().message, HasSubstr(std::string(flag.flag) + ": " + flag.key));
    const auto exported = ResolveFlags({}, Fake({{flag.environment, "~"}}));
    ASSERT_FALSE(exported.has_value()) << flag.environment;
    EXPECT_THAT(exported.error().message, HasSubstr(std::string(flag.environment) + ": " + flag.key));
  }
}

TEST(ResolveFlags, SaysWhatIsWrong) {
  const auto message = [](PolicyFlags flags, std::map<std::string, std::string> variables) {
    const auto resolved = ResolveFlags(flags, Fake(std::move(variables)));
    EXPECT_FALSE(resolved.has_value());
    if (resolved.has_value()) return std::string();
    EXPECT_EQ(resolved.error().kind, ErrorKind::kUsage);
    return resolved.error().message;
  };
  PolicyFlags both = Flag("--ram", "1GiB");
  both.set = {"memory.ram=2GiB"};
  EXPECT_THAT(message(both, {}), HasSubstr("memory.ram is set by --set and by --ram; give one"));
  EXPECT_THAT(message({.set = {"cache.policy"}}, {}), HasSubstr("expected table.key=value"));
  EXPECT_THAT(message({.set = {"cache.polcy=lru"}}, {}),
              HasSubstr("--set: \"cache.polcy\" is no key of a policy; did you mean cache.policy?"));
  EXPECT_THAT(message({.set = {"memory.ram=99999EiB"}}, {}), HasSubstr("more than any machine has"));
  EXPECT_THAT(message({}, {{"MORAINE_SET", "x"}}), HasSubstr("MORAINE_SET is \"x\""));
  EXPECT_THAT(message(Flag("--vram", "24GiB"), {}), HasSubstr("--vram: memory.vram = \"24GiB\" needs a GPU"));
  EXPECT_THAT(message({.policy = "latncy"}, {}), HasSubstr("did you mean latency?"));
  EXPECT_THAT(message({.policy = "/"}, {}), HasSubstr("policy /: no file that can be read"));
  EXPECT_THAT(message({.policy = "/dev/zero"}, {}), HasSubstr("a policy has at most 262144"));
}

}  // namespace
}  // namespace moraine::tools
