// tools/engine_flags.h: what a policy asks of the engine, lists of ids.
#include "tools/engine_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cpu/cpu_backend.h"
#include "policies/policy_keys.h"

namespace moraine::tools {
namespace {

using ::testing::HasSubstr;

TEST(ApplyPolicy, SetsWhatTheEngineHasOptionsForAndLeavesTheRest) {
  EngineOptions options;
  ApplyPolicy({}, &options);
  EXPECT_EQ(options.context, EngineOptions().context);
  EXPECT_EQ(options.prefill_chunk, EngineOptions().prefill_chunk);
  EXPECT_EQ(options.kv_type, EngineOptions().kv_type);
  EXPECT_EQ(options.threads, 0);
  EXPECT_EQ(options.isa, "auto");
  EXPECT_FALSE(options.f32_activations);
  EXPECT_FALSE(options.ram.has_value());

  Policy policy;
  policy.context = {.tokens = 77, .kv_type = "f32"};
  policy.memory.ram = 1 << 30;
  policy.cpu = {.threads = 3, .isa = "scalar", .activations = "f32"};
  policy.prefill.chunk = 64;
  ApplyPolicy(policy, &options);
  EXPECT_EQ(options.context, 77);
  EXPECT_EQ(options.kv_type, KvType::kF32);
  EXPECT_EQ(options.ram, 1 << 30);
  EXPECT_EQ(options.threads, 3);
  EXPECT_EQ(options.isa, "scalar");
  EXPECT_TRUE(options.f32_activations);
  EXPECT_EQ(options.prefill_chunk, 64);
}

// The engine and the policy name the same things.
TEST(ApplyPolicy, EveryWordIsKnownToTheEngine) {
  for (const std::string_view word : (*FindPolicyKey("context.kv_type"))->words)
    EXPECT_TRUE(ParseKvType(word).has_value()) << word;
  for (const std::string_view word : (*FindPolicyKey("cpu.isa"))->words) {
    const auto backend = CpuBackend::Create({.threads = 1, .isa = std::string(word)});
    EXPECT_TRUE(backend.has_value() || backend.error().kind == ErrorKind::kHardware) << word;
  }
}

TEST(ParseIds, TakesCommasAndWhiteSpaceAndNamesWhatIsNotAnId) {
  EXPECT_EQ(ParseIds("5,17, 3\n4\t\n", "ids"), (std::vector<int32_t>{5, 17, 3, 4}));
  EXPECT_THAT(ParseIds("5,x17", "ids").error().message,
              HasSubstr("at byte 2: expected decimal token ids, found \"x17\""));
  for (const char* bad : {"", " , ", "-1", "1.5", "99999999999", "5;6", "0x10", "5\x01"}) {
    EXPECT_FALSE(ParseIds(bad, "ids").has_value()) << bad;
  }
}

}  // namespace
}  // namespace moraine::tools
