// What each eviction policy does that the others do not.
#include <gtest/gtest.h>

#include <cmath>

#include "policies/eviction.h"
#include "policies/slot_table.h"

namespace moraine {
namespace {

std::unique_ptr<Eviction> Make(const EvictionOptions& options, int32_t keys = 8) {
  auto made = MakeEviction(options, keys);
  EXPECT_TRUE(made.has_value());
  return std::move(*made);
}

double Score(const Eviction& eviction, int32_t key) {
  double score = 0;
  eviction.Scores({&key, 1}, {&score, 1});
  return score;
}

TEST(Lru, OrdersByLastUseWhateverItsCount) {
  const auto lru = Make({.policy = "lru"});
  lru->Use(1, 50);
  lru->Use(2, 0);
  EXPECT_GT(Score(*lru, 2), Score(*lru, 1));
}

TEST(Lfu, CountsAndForgetsNothing) {
  const auto lfu = Make({.policy = "lfu"});
  lfu->Use(1, 3);
  lfu->Tick(1'000'000);
  lfu->Use(2, 2);
  lfu->Use(3, 0);
  EXPECT_EQ(Score(*lfu, 1), 3);
  EXPECT_EQ(Score(*lfu, 2), 2);
  EXPECT_EQ(Score(*lfu, 3), 0);
}

TEST(Ewma, HalvesEveryHalfLife) {
  const auto ewma = Make({.policy = "ewma", .half_life = 16, .slow_weight = 0});
  ewma->Tick(1);
  ewma->Use(1, 2);
  EXPECT_DOUBLE_EQ(Score(*ewma, 1), 2);
  ewma->Tick(16);
  EXPECT_DOUBLE_EQ(Score(*ewma, 1), 1);
  ewma->Tick(32);
  EXPECT_DOUBLE_EQ(Score(*ewma, 1), 0.25);
  ewma->Use(1, 1);
  EXPECT_DOUBLE_EQ(Score(*ewma, 1), 1.25);
}

TEST(Ewma, AddsTheSlowScoreByItsWeight) {
  const auto ewma = Make({.policy = "ewma", .half_life = 1, .slow_half_life = 100, .slow_weight = 0.5});
  ewma->Tick(1);
  ewma->Use(1, 4);
  EXPECT_DOUBLE_EQ(Score(*ewma, 1), 4 + 0.5 * 4);
  ewma->Tick(100);
  EXPECT_NEAR(Score(*ewma, 1), 0.5 * 2, 1e-12) << "of the fast score nothing is left";
}

// The same sums as the definition gives, across many rescalings (half-life 1: one every 500 tokens).
TEST(Ewma, RescalingChangesNoScore) {
  const auto ewma = Make({.policy = "ewma", .half_life = 1, .slow_half_life = 3, .slow_weight = 0.5});
  double fast = 0;
  double slow = 0;
  for (int i = 0; i < 20'000; ++i) {
    ewma->Tick(7);
    fast *= std::exp2(-7.0);
    slow *= std::exp2(-7.0 / 3);
    if (i % 3 != 0) continue;
    ewma->Use(2, 5);
    fast += 5;
    slow += 5;
  }
  EXPECT_NEAR(Score(*ewma, 2), fast + 0.5 * slow, 1e-9);
}

TEST(Ewma, TheMarginIsItsHysteresis) {
  EXPECT_DOUBLE_EQ(Make({.policy = "ewma", .hysteresis = 0.3})->margin(), 1.3);
  EXPECT_DOUBLE_EQ(Make({.policy = "ewma", .hysteresis = 0})->margin(), 1);
}

// One kept slot, one staging slot: a newcomer used as often stays out until it is used 30 % more.
TEST(Ewma, ANearEqualDoesNotSwap) {
  SlotTable table({.layers = 1, .experts = 8, .slots = 2, .staging = 1},
                  Make({.policy = "ewma", .half_life = 1e9, .slow_weight = 0, .hysteresis = 0.3}));
  const auto use = [&](int32_t key, int32_t uses) {
    const bool hit = table.Find(key).value >= 0;
    if (!hit) {
      ASSERT_TRUE(table.Place(key));
      table.Unpin(key);
    }
    table.Use(key, uses, hit);
    table.Settle();
  };
  use(0, 10);
  use(1, 12);
  EXPECT_TRUE(table.Kept(0) && !table.Kept(1));
  use(1, 2);
  EXPECT_TRUE(table.Kept(1) && !table.Kept(0));
}

TEST(Pinned, FollowsItsProfileAlone) {
  const auto pinned = Make({.policy = "pinned", .profile = {1, 9, 4, 4}});
  for (int i = 0; i < 100; ++i) pinned->Use(7, 1);
  EXPECT_GT(Score(*pinned, 1), Score(*pinned, 2));
  EXPECT_GT(Score(*pinned, 2), Score(*pinned, 3)) << "of equals the lower key";
  EXPECT_GT(Score(*pinned, 3), Score(*pinned, 0));
  EXPECT_GT(Score(*pinned, 0), Score(*pinned, 4)) << "beyond the profile there were no uses";
  EXPECT_GT(Score(*pinned, 4), Score(*pinned, 7));
}

}  // namespace
}  // namespace moraine
