// Where experts lie must not change a token: every budget, policy and way of reading gives the same bits.
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "runtime/engine.h"
#include "tests/support/golden.h"

namespace moraine {
namespace {

using test::Golden;

constexpr int32_t kNew = 12;

struct Outcome {
  std::vector<float> prefill;  // logits after the prompt
  std::vector<int32_t> tokens;
  std::vector<float> last;
  EngineStats stats;
};

std::unique_ptr<Engine> Open(const std::string& name, const ExpertOptions& experts, int threads = 2,
                             int32_t chunk = 40, const std::string& topology = "") {
  EngineOptions options;
  options.topology = topology;
  options.context = 160;
  options.prefill_chunk = chunk;
  options.threads = threads;
  options.experts = experts;
  auto engine = Engine::Open(Golden(name).folder(), options);
  EXPECT_TRUE(engine.has_value()) << engine.error().message;
  return std::move(engine).value();
}

// A prompt in chunks, then greedy tokens.
Outcome Answer(Engine& engine, std::span<const int32_t> prompt) {
  Outcome out;
  Sequence sequence = engine.NewSequence();
  auto logits = engine.Prefill(&sequence, prompt);
  EXPECT_TRUE(logits.has_value()) << logits.error().message;
  out.prefill.assign(logits->begin(), logits->end());
  for (int32_t i = 0; i < kNew; ++i) {
    out.tokens.push_back(
        static_cast<int32_t>(std::max_element(logits->begin(), logits->end()) - logits->begin()));
    const StepInput input{&sequence, {&out.tokens.back(), 1}};
    logits = engine.Step({&input, 1});
    EXPECT_TRUE(logits.has_value()) << logits.error().message;
  }
  out.last.assign(logits->begin(), logits->end());
  out.stats = engine.stats();
  return out;
}

void ExpectSame(const Outcome& got, const Outcome& want) {
  EXPECT_EQ(got.tokens, want.tokens);
  EXPECT_EQ(got.prefill, want.prefill);
  EXPECT_EQ(got.last, want.last);
}

class Tiers : public ::testing::TestWithParam<const char*> {
 protected:
  std::vector<int32_t> Prompt() const {
    const Golden golden(GetParam());
    const auto& ids = golden.Ints("ids");
    return {ids.begin(), ids.end()};
  }
};

TEST_P(Tiers, EveryBudgetGivesTheSameBits) {
  const Outcome want = Answer(*Open(GetParam(), {}), Prompt());
  EXPECT_EQ(want.stats.expert_misses, 0);
  const auto all = Open(GetParam(), {})->plan().routed_experts;
  for (const int64_t slots : {int64_t{0}, all / 4, all / 2, all - 1, all, all + 9}) {
    SCOPED_TRACE(slots);
    ExpertOptions experts;
    experts.slots = slots;
    const Outcome got = Answer(*Open(GetParam(), experts), Prompt());
    ExpectSame(got, want);
    EXPECT_EQ(got.stats.expert_misses > 0, slots < all);
    EXPECT_EQ(got.stats.expert_hits + got.stats.expert_misses, want.stats.expert_hits)
        << "each expert once per layer and step, wherever it was";
  }
}

TEST_P(Tiers, EveryPolicyGivesTheSameBits) {
  const Outcome want = Answer(*Open(GetParam(), {}), Prompt());
  ExpertOptions experts;
  const int64_t all = Open(GetParam(), {})->plan().routed_experts;
  experts.slots = all / 2;
  experts.eviction.profile.assign(static_cast<size_t>(all), 0);
  for (size_t key = 0; key < experts.eviction.profile.size(); key += 3)
    experts.eviction.profile[key] = static_cast<float>(key);
  for (const std::string_view policy : EvictionNames()) {
    for (const bool second_touch : {false, true}) {
      SCOPED_TRACE(policy);
      experts.eviction.policy = policy;
      experts.second_touch = second_touch;
      ExpectSame(Answer(*Open(GetParam(), experts), Prompt()), want);
    }
  }
}

TEST_P(Tiers, EveryWayOfReadingGivesTheSameBits) {
  const Outcome want = Answer(*Open(GetParam(), {}), Prompt());
  ExpertOptions experts;
  experts.slots = 0;
  for (const int64_t chunk : {kStreamBlock, int64_t{1} << 20}) {
    for (const int depth : {1, 16}) {
      for (const StreamBackendKind kind : {StreamBackendKind::kAuto, StreamBackendKind::kPread}) {
        for (const bool direct : {false, true}) {
          experts.streamer.backend = kind;
          experts.streamer.chunk_bytes = chunk;
          experts.streamer.depth = depth;
          experts.streamer.background_depth = 1;
          experts.streamer.direct = direct;
          ExpectSame(Answer(*Open(GetParam(), experts), Prompt()), want);
        }
      }
    }
  }
}

TEST_P(Tiers, PrefetchChangesNothing) {
  const Outcome want = Answer(*Open(GetParam(), {}), Prompt());
  ExpertOptions experts;
  experts.prefetch.mode = PrefetchMode::kNextGate;
  for (const double least_useful : {0.0, 1.0}) {
    for (const int64_t slots : {int64_t{0}, Open(GetParam(), {})->plan().routed_experts / 2}) {
      experts.slots = slots;
      experts.prefetch.least_useful = least_useful;
      experts.prefetch.sample = 1;
      const auto engine = Open(GetParam(), experts);
      const Outcome got = Answer(*engine, Prompt());
      ExpectSame(got, want);
      // Two MoE layers or more are needed for one to be guessed from the other.
      EXPECT_EQ(got.stats.guesses > 0, engine->shape().moe_layers() > 1);
    }
  }
}

TEST_P(Tiers, ThreadsChangeNothing) {
  ExpertOptions experts;
  experts.slots = 0;
  const Outcome want = Answer(*Open(GetParam(), {}, 1), Prompt());
  for (const int threads : {1, 2, 3}) ExpectSame(Answer(*Open(GetParam(), experts, threads), Prompt()), want);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, Tiers,
                         ::testing::Values("v3-bf16", "v3-fp8", "v3-hf5", "v2", "v2-lite", "moonlight",
                                           "v3-int4-g32", "v3-int4-zeros", "v3-int8", "v3-w8a8"),
                         [](const auto& param) {
                           std::string name = param.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// Slots lie on every node, each with its node's rows; what was read is the same.
TEST(TiersNodes, NodesChangeNothing) {
  for (const char* name : {"v3-fp8", "v3-int4-zeros", "v3-w8a8"}) {
    const Golden golden(name);
    const auto& ids = golden.Ints("ids");
    const Outcome want = Answer(*Open(name, {}), ids);
    for (const char* nodes : {"node:2 core:1 pu:1", "node:3 core:1 pu:1", "node:8 core:1 pu:1"}) {
      SCOPED_TRACE(nodes);
      ExpertOptions experts;
      const auto all = Open(name, experts, 0, 40, nodes);
      const int64_t held = all->plan().routed_experts;
      ExpectSame(Answer(*all, ids), want);
      for (const int64_t slots : {int64_t{0}, held / 2}) {
        experts.slots = slots;
        const Outcome got = Answer(*Open(name, experts, 0, 40, nodes), ids);
        ExpectSame(got, want);
        EXPECT_GT(got.stats.expert_misses, 0);
      }
    }
  }
}

// A chunk reads each expert it needs at most once, however few slots there are.
TEST(TiersPrefill, AChunkReadsEachExpertOnce) {
  ExpertOptions experts;
  experts.slots = 0;
  const auto engine = Open("v3-fp8", experts, 2, 128);
  const Golden golden("v3-fp8");
  const auto& ids = golden.Ints("ids");
  Sequence sequence = engine->NewSequence();
  ASSERT_TRUE(engine->Prefill(&sequence, ids).has_value());
  const EngineStats stats = engine->stats();
  const Plan& plan = engine->plan();
  EXPECT_LE(stats.expert_misses, plan.routed_experts);
  EXPECT_LE(stats.nvme_bytes, plan.routed_experts * plan.expert_bytes + (int64_t{1} << 20));
  EXPECT_GT(stats.expert_misses, plan.routed_experts / 2);
}

TEST(TiersPlan, WhatIsTooFewIsRefusedWithTheShortfall) {
  EngineOptions options;
  options.context = 160;
  options.ram = int64_t{1} << 20;
  const auto engine = Engine::Open(Golden("v3-fp8").folder(), options);
  ASSERT_FALSE(engine.has_value());
  EXPECT_EQ(engine.error().kind, ErrorKind::kDoesNotFit);
  EXPECT_NE(engine.error().message.find("expert slots (at least)"), std::string::npos)
      << engine.error().message;
}

}  // namespace
}  // namespace moraine
