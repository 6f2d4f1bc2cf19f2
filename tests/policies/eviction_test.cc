// policies/eviction.h: what every policy keeps. Each policy's own behaviour is in eviction_policies_test.cc.
#include "policies/eviction.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

#include "tests/support/allocations.h"

namespace moraine {
namespace {

using ::testing::HasSubstr;

constexpr int32_t kKeys = 64;

EvictionOptions Options(const std::string& policy) {
  EvictionOptions options{.policy = policy};
  options.profile = {0, 7, 3, 3};
  return options;
}

class EveryPolicy : public ::testing::TestWithParam<std::string_view> {
 protected:
  std::unique_ptr<Eviction> Make() const {
    auto made = MakeEviction(Options(std::string(GetParam())), kKeys);
    EXPECT_TRUE(made.has_value()) << made.error().message;
    return std::move(*made);
  }
  // pinned looks at its profile alone.
  bool Learns() const { return GetParam() != "pinned"; }
  bool Ages() const { return GetParam() == "ewma"; }

  static std::vector<double> AllScores(const Eviction& eviction) {
    std::vector<int32_t> keys(kKeys);
    std::iota(keys.begin(), keys.end(), 0);
    std::vector<double> scores(kKeys);
    eviction.Scores(keys, scores);
    return scores;
  }
  static double Score(const Eviction& eviction, int32_t key) {
    double score = 0;
    eviction.Scores({&key, 1}, {&score, 1});
    return score;
  }
  static void Drive(Eviction& eviction, int32_t steps) {
    std::mt19937 draw(7);
    for (int32_t step = 0; step < steps; ++step) {
      eviction.Tick(1 + static_cast<int32_t>(draw() % 64));
      for (int use = 0; use < 4; ++use)
        eviction.Use(static_cast<int32_t>(draw() % kKeys), static_cast<int32_t>(draw() % 3));
    }
  }
};

TEST_P(EveryPolicy, SameCallsGiveTheSameScores) {
  const auto a = Make();
  const auto b = Make();
  Drive(*a, 500);
  Drive(*b, 500);
  EXPECT_EQ(AllScores(*a), AllScores(*b));
  EXPECT_EQ(AllScores(*a), AllScores(*a)) << "asking changes nothing";
}

TEST_P(EveryPolicy, ScoresDoNotDependOnWhichKeysAreAskedTogether) {
  const auto eviction = Make();
  Drive(*eviction, 100);
  const std::vector<double> all = AllScores(*eviction);
  for (int32_t key = 0; key < kKeys; ++key) EXPECT_EQ(all[static_cast<size_t>(key)], Score(*eviction, key));
}

TEST_P(EveryPolicy, ScoresAreFiniteAtTheStartAndLater) {
  const auto eviction = Make();
  for (int round = 0; round < 3; ++round) {
    for (const double score : AllScores(*eviction)) EXPECT_TRUE(std::isfinite(score) && score >= 0) << score;
    Drive(*eviction, 200);
  }
}

TEST_P(EveryPolicy, AUsedKeyBeatsOneThatNeverWas) {
  const auto eviction = Make();
  if (!Learns()) {
    EXPECT_GT(Score(*eviction, 1), Score(*eviction, 40)) << "by its profile";
    return;
  }
  eviction->Tick(1);
  eviction->Use(9, 1);
  EXPECT_GT(Score(*eviction, 9), Score(*eviction, 8));
  for (int i = 0; i < 1000; ++i) eviction->Tick(1 << 20);
  EXPECT_GT(Score(*eviction, 9), Score(*eviction, 8)) << "however long ago";
}

TEST_P(EveryPolicy, AMillionTicksOverflowNothing) {
  const auto eviction = Make();
  for (int i = 0; i < 1'000'000; ++i) {
    eviction->Tick(64);
    eviction->Use(i % 2, 64);
  }
  eviction->Tick(std::numeric_limits<int32_t>::max());
  eviction->Use(5, 1);
  for (const double score : AllScores(*eviction)) EXPECT_TRUE(std::isfinite(score) && score >= 0) << score;
  if (Learns()) {
    EXPECT_GT(Score(*eviction, 0), Score(*eviction, 7));
    EXPECT_GT(Score(*eviction, 5), Score(*eviction, 7));
  }
}

TEST_P(EveryPolicy, ATickAgesOnlyWhereThePolicyAges) {
  const auto eviction = Make();
  eviction->Tick(1);
  eviction->Use(3, 1);
  const double before = Score(*eviction, 3);
  eviction->Tick(10);
  if (Ages()) {
    EXPECT_LT(Score(*eviction, 3), before);
  } else {
    EXPECT_EQ(Score(*eviction, 3), before);
  }
}

TEST_P(EveryPolicy, CallsAllocateNothing) {
  const auto eviction = Make();
  std::vector<int32_t> keys(kKeys);
  std::iota(keys.begin(), keys.end(), 0);
  std::vector<double> scores(kKeys);
  const int64_t before = test::Allocations();
  for (int i = 0; i < 10'000; ++i) {
    eviction->Tick(64);
    eviction->Use(i % kKeys, 2);
    eviction->Scores(keys, scores);
  }
  EXPECT_EQ(test::Allocations(), before);
  EXPECT_GT(before, 0) << "the counter counts";
}

TEST_P(EveryPolicy, TheMarginIsAtLeastOne) { EXPECT_GE(Make()->margin(), 1); }

INSTANTIATE_TEST_SUITE_P(Eviction, EveryPolicy,
                         ::testing::ValuesIn(EvictionNames().begin(), EvictionNames().end()),
                         [](const auto& policy) { return std::string(policy.param); });

TEST(MakeEviction, TheDefaultIsTheFirstName) { EXPECT_EQ(EvictionOptions().policy, EvictionNames().front()); }

TEST(MakeEviction, NamesWhatIsOutOfRange) {
  const auto message = [](EvictionOptions options) {
    const auto made = MakeEviction(options, kKeys);
    EXPECT_FALSE(made.has_value());
    if (made.has_value()) return std::string();
    EXPECT_EQ(made.error().kind, ErrorKind::kUsage);
    return made.error().message;
  };
  EXPECT_THAT(message({.policy = "LRU"}), HasSubstr("\"LRU\" is unknown; one of ewma, lru, lfu, pinned"));
  EXPECT_THAT(message({.half_life = 0.5}), HasSubstr("half_life is 0.5; expected 1 to 1000000000"));
  EXPECT_THAT(message({.half_life = std::nan("")}), HasSubstr("half_life is nan"));
  EXPECT_THAT(message({.slow_half_life = 1e10}), HasSubstr("slow_half_life is 10000000000"));
  EXPECT_THAT(message({.slow_weight = -1}), HasSubstr("slow_weight is -1; expected 0 to 100"));
  EXPECT_THAT(message({.hysteresis = INFINITY}), HasSubstr("hysteresis is inf"));
  EXPECT_THAT(message({.policy = "pinned", .profile = {1, -2}}), HasSubstr("profile[1] is -2"));
  EXPECT_THAT(message({.policy = "pinned"}), HasSubstr("needs a profile"));
}

}  // namespace
}  // namespace moraine
