// policies/belady.h, replay.h and synthetic_routing.h: known answers on traces made by hand, and bounds that
// hold.
#include "policies/replay.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <set>

#include "policies/belady.h"
#include "policies/synthetic_routing.h"

namespace moraine {
namespace {

// One layer, one expert a step.
RoutingTrace Uses(const std::vector<int32_t>& keys, int32_t experts) {
  RoutingTrace trace{.layers = 1, .experts = experts, .top_k = 1};
  for (const int32_t key : keys) {
    trace.steps.push_back({.rows = 1, .layers = {{0, trace.chosen.size()}}});
    trace.chosen.push_back(key);
  }
  return trace;
}

// Every choice of victim, and with bypass of taking no slot at all.
int64_t MostHits(std::span<const int32_t> uses, std::set<int32_t> held, size_t slots, bool bypass) {
  if (uses.empty()) return 0;
  const auto rest = uses.subspan(1);
  if (held.contains(uses[0])) return 1 + MostHits(rest, held, slots, bypass);
  int64_t best = 0;
  if (bypass) best = MostHits(rest, held, slots, bypass);
  if (held.size() < slots) {
    std::set<int32_t> with = held;
    with.insert(uses[0]);
    return std::max(best, MostHits(rest, with, slots, bypass));
  }
  for (const int32_t victim : held) {
    std::set<int32_t> with = held;
    with.erase(victim);
    with.insert(uses[0]);
    best = std::max(best, MostHits(rest, with, slots, bypass));
  }
  return best;
}

TEST(Belady, EqualsTheBestOfAllChoices) {
  EXPECT_TRUE(rc::check([] {
    const auto uses =
        *rc::gen::container<std::vector<int32_t>>(*rc::gen::inRange(0, 10), rc::gen::inRange(0, 5));
    for (const int32_t slots : {1, 2, 3})
      for (const bool bypass : {false, true})
        RC_ASSERT(BeladyOfKeys(uses, 5, slots, bypass) ==
                  MostHits(uses, {}, static_cast<size_t>(slots), bypass));
  }));
}

TEST(Belady, KnownAnswers) {
  const std::vector<int32_t> textbook = {1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5};
  EXPECT_EQ(BeladyOfKeys(textbook, 6, 3, false), 5) << "Belady's own string: 7 faults with 3 frames";
  const std::vector<int32_t> scan = {0, 1, 0, 2, 0, 3, 0};
  EXPECT_EQ(BeladyOfKeys(scan, 4, 1, false), 0);
  EXPECT_EQ(BeladyOfKeys(scan, 4, 1, true), 3) << "bypass keeps 0";
}

TEST(Belady, CountsDecodeApart) {
  RoutingTrace trace{.layers = 2, .experts = 4, .top_k = 2};
  trace.chosen = {0, 1, 0, 2, 3, 2, 3, 1,  // a prefill step of two rows, two layers
                  1, 0, 1, 2};             // a decode step
  trace.steps = {{.rows = 2, .decode = false, .layers = {{0, 0}, {1, 4}}},
                 {.rows = 1, .layers = {{0, 8}, {1, 10}}}};
  const BeladyHits hits = Belady(trace, 8, false);
  EXPECT_EQ(hits.accesses, 3 + 3 + 2 + 2);
  EXPECT_EQ(hits.decode_accesses, 4);
  EXPECT_EQ(hits.hits, 4);
  EXPECT_EQ(hits.decode_hits, 4);
}

TEST(Replay, KnownAnswersOfEachPolicy) {
  // Two kept slots and one staging slot.
  const auto hits = [](const std::vector<int32_t>& uses, const EvictionOptions& options) {
    const RoutingTrace trace = Uses(uses, 8);
    const auto result = Replay(trace, {.layers = 1, .experts = 8, .slots = 3, .staging = 1}, options);
    EXPECT_TRUE(result.has_value()) << result.error().message;
    EXPECT_EQ(result->all.hits + result->all.misses, static_cast<int64_t>(uses.size()));
    EXPECT_EQ(result->decode.hits, result->all.hits);
    EXPECT_EQ(result->decode.tokens, static_cast<int64_t>(uses.size()));
    return result->all.hits;
  };
  // A cycle over one more than all slots: LRU's cliff. Frequency keeps its first two.
  const std::vector<int32_t> cycle = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
  EXPECT_EQ(hits(cycle, {.policy = "lru"}), 0);
  EXPECT_EQ(hits(cycle, {.policy = "lfu"}), 4) << "0 and 1 are kept, 2 and 3 pass through staging";
  // Then the hot set moves: LFU holds on to 0 and 1, what was hot long ago; ewma and LRU follow.
  std::vector<int32_t> moved;
  for (int i = 0; i < 20; ++i) moved.insert(moved.end(), {0, 1});
  for (int i = 0; i < 10; ++i) moved.insert(moved.end(), {4, 5, 6});
  EXPECT_EQ(hits(moved, {.policy = "lfu"}), 38);
  EXPECT_EQ(hits(moved, {.policy = "lru"}), 38 + 27);
  EXPECT_GT(hits(moved, {.policy = "ewma", .half_life = 4, .slow_weight = 0}), 38 + 10);
  EvictionOptions pinned{.policy = "pinned"};
  pinned.profile = CountUses(Uses({4, 4, 4, 5, 5, 6}, 8));
  EXPECT_EQ(hits(cycle, pinned), 4) << "none is in the profile: the lowest keys stay, 2 and 3 pass through";
  EXPECT_EQ(hits(moved, pinned), 38 + 27) << "4 and 5 are kept at once, and 6 has the staging slot to itself";
}

TEST(Replay, IsWhatTheSlotTableDoes) {
  const RoutingTrace trace =
      MakeRouting({.layers = 3, .experts = 16, .top_k = 4, .tokens = 300, .prompt = 100, .seed = 3});
  const auto result =
      Replay(trace, {.layers = 3, .experts = 16, .slots = 24, .staging = 4, .floor = 2}, {.policy = "ewma"});
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->prefill.tokens, 100);
  EXPECT_EQ(result->decode.tokens, 300);
  EXPECT_EQ(result->decode.hits + result->decode.misses, 300 * 3 * 4);
  EXPECT_EQ(result->decode.hits + result->prefill.hits, result->all.hits);
  EXPECT_GT(result->batches, 301 * 3) << "the prompt's layers do not fit four staging slots";
}

TEST(Replay, NoPolicyBeatsBelady) {
  EXPECT_TRUE(rc::check([] {
    const SyntheticRouting made{.layers = *rc::gen::inRange(1, 4),
                                .experts = 12,
                                .top_k = *rc::gen::inRange(1, 5),
                                .tokens = 60,
                                .prompt = *rc::gen::inRange(0, 20),
                                .skew = 0.8,
                                .overlap = 0.3,
                                .seed = *rc::gen::arbitrary<uint64_t>()};
    const RoutingTrace trace = MakeRouting(made);
    const int32_t slots = *rc::gen::inRange(2, 12 * made.layers);
    const BeladyHits strict = Belady(trace, slots, false);
    const BeladyHits loose = Belady(trace, slots, true);
    RC_ASSERT(loose.hits >= strict.hits);
    for (const std::string_view policy : EvictionNames()) {
      EvictionOptions options{.policy = std::string(policy)};
      options.profile = CountUses(trace);
      SlotTableOptions table{
          .layers = made.layers, .experts = 12, .slots = slots, .staging = *rc::gen::inRange(1, slots)};
      const auto result = Replay(trace, table, options);
      RC_ASSERT(result.has_value());
      RC_ASSERT(result->all.hits + result->all.misses == strict.accesses);
      RC_ASSERT(result->all.hits <= strict.hits);
    }
  }));
}

TEST(Replay, RefusesAnUnknownPolicy) {
  EXPECT_FALSE(Replay(Uses({0}, 2), {.layers = 1, .experts = 2, .slots = 2}, {.policy = "fifo"}).has_value());
}

TEST(MakeRouting, HasTheOverlapAndSkewItWasAskedFor) {
  const SyntheticRouting even{
      .layers = 4, .experts = 128, .tokens = 500, .skew = 0, .overlap = 0, .memory = 1};
  EXPECT_NEAR(Lag1Overlap(MakeRouting(even)), 8.0 / 128, 0.01) << "chance";
  SyntheticRouting local = even;
  local.overlap = 0.4;
  EXPECT_NEAR(Lag1Overlap(MakeRouting(local)), 0.4 + 0.6 * 8 / 128, 0.02);
  // The same share from farther back: less at lag 1, but a hot set that lasts.
  local.memory = 16;
  EXPECT_LT(Lag1Overlap(MakeRouting(local)), 0.3);
  EXPECT_GT(Lag1Overlap(MakeRouting(local)), 1.3 * 8.0 / 128);
  SyntheticRouting skewed = even;
  skewed.skew = 1;
  const auto share_of_top_ten = [](const RoutingTrace& trace) {
    std::vector<float> uses = CountUses(trace);
    uses.resize(static_cast<size_t>(trace.experts));
    std::sort(uses.rbegin(), uses.rend());
    float top = 0;
    float all = 0;
    for (size_t i = 0; i < uses.size(); ++i) (i < 12 ? top : all) += uses[i];
    return top / (top + all);
  };
  EXPECT_LT(share_of_top_ten(MakeRouting(even)), 0.15);
  EXPECT_GT(share_of_top_ten(MakeRouting(skewed)), 0.4);
}

TEST(MakeRouting, IsTheSameForTheSameSeed) {
  const SyntheticRouting options{.layers = 2, .experts = 16, .top_k = 4, .tokens = 20};
  EXPECT_EQ(MakeRouting(options).chosen, MakeRouting(options).chosen);
  SyntheticRouting other = options;
  other.seed = 2;
  EXPECT_NE(MakeRouting(options).chosen, MakeRouting(other).chosen);
  const RoutingTrace trace = MakeRouting(options);
  for (size_t row = 0; row < trace.chosen.size(); row += 4)
    EXPECT_EQ(std::set<int32_t>(trace.chosen.begin() + static_cast<std::ptrdiff_t>(row),
                                trace.chosen.begin() + static_cast<std::ptrdiff_t>(row) + 4)
                  .size(),
              4u);
}

}  // namespace
}  // namespace moraine
