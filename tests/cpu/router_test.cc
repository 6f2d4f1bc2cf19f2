// cpu/router.h against a slow restatement of the published rule, and its corner cases by hand.
#include "cpu/router.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/support/matrix.h"

namespace moraine {
namespace {

struct Choice {
  std::vector<int32_t> experts;
  std::vector<float> weights;
};

Choice Choose(const RouterShape& router, int32_t top_k, const std::vector<float>& logits,
              const std::vector<float>& bias) {
  Choice choice{std::vector<int32_t>(static_cast<size_t>(top_k)),
                std::vector<float>(static_cast<size_t>(top_k))};
  std::vector<float> scratch(2 * logits.size() + static_cast<size_t>(router.groups));
  ChooseExperts(router, logits, bias, choice.experts, choice.weights, scratch);
  return choice;
}

// The rule as a sort over whole lists, in double.
Choice Slow(const RouterShape& router, int32_t top_k, const std::vector<float>& logits,
            const std::vector<float>& bias) {
  const size_t n = logits.size();
  std::vector<double> scores(n);
  double sum = 0;
  for (size_t e = 0; e < n; ++e) {
    const double exponential = std::exp(static_cast<double>(logits[e]));
    scores[e] = router.score == ScoreFunction::kSigmoid ? exponential / (1 + exponential) : exponential;
    sum += scores[e];
  }
  if (router.score == ScoreFunction::kSoftmax) {
    for (double& score : scores) score /= sum;
  }
  std::vector<double> choice(n);
  for (size_t e = 0; e < n; ++e) choice[e] = scores[e] + (bias.empty() ? 0.0 : static_cast<double>(bias[e]));
  std::vector<bool> allowed(n, true);
  if (router.group_score != GroupScore::kNone) {
    const size_t size = n / static_cast<size_t>(router.groups);
    std::vector<std::pair<double, size_t>> groups;
    for (size_t g = 0; g < static_cast<size_t>(router.groups); ++g) {
      std::vector<double> values(choice.begin() + static_cast<std::ptrdiff_t>(g * size),
                                 choice.begin() + static_cast<std::ptrdiff_t>((g + 1) * size));
      std::sort(values.rbegin(), values.rend());
      groups.push_back(
          {-(values[0] + (router.group_score == GroupScore::kTwoBest && size > 1 ? values[1] : 0)), g});
    }
    std::sort(groups.begin(), groups.end());
    std::fill(allowed.begin(), allowed.end(), false);
    for (size_t k = 0; k < static_cast<size_t>(router.kept_groups); ++k) {
      for (size_t e = 0; e < size; ++e) allowed[groups[k].second * size + e] = true;
    }
  }
  std::vector<int32_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    const auto x = static_cast<size_t>(a);
    const auto y = static_cast<size_t>(b);
    return allowed[x] != allowed[y] ? allowed[x] : choice[x] > choice[y];
  });
  Choice result;
  double total = 0;
  for (size_t k = 0; k < static_cast<size_t>(top_k); ++k) total += scores[static_cast<size_t>(order[k])];
  for (size_t k = 0; k < static_cast<size_t>(top_k); ++k) {
    result.experts.push_back(order[k]);
    const double score = scores[static_cast<size_t>(order[k])];
    result.weights.push_back(
        static_cast<float>(static_cast<double>(router.scale) * (router.normalise ? score / total : score)));
  }
  return result;
}

TEST(ChooseExperts, FollowsThePublishedRuleForAnyShape) {
  EXPECT_TRUE(rc::check([] {
    RouterShape router;
    router.groups = *rc::gen::element(1, 2, 4, 8);
    const int32_t size = *rc::gen::inRange<int32_t>(2, 9);
    router.kept_groups = *rc::gen::inRange<int32_t>(1, router.groups + 1);
    router.score = *rc::gen::element(ScoreFunction::kSigmoid, ScoreFunction::kSoftmax);
    router.group_score = *rc::gen::element(GroupScore::kNone, GroupScore::kMaximum, GroupScore::kTwoBest);
    router.normalise = *rc::gen::arbitrary<bool>();
    router.scale = 2.5f;
    const int32_t top_k = *rc::gen::inRange<int32_t>(1, size * router.kept_groups + 1);
    const int64_t experts = int64_t{size} * router.groups;
    const auto seed = *rc::gen::arbitrary<uint32_t>();
    const auto logits = test::RandomVector(experts, seed);
    const auto bias =
        *rc::gen::arbitrary<bool>() ? test::RandomVector(experts, seed + 1) : std::vector<float>();
    const Choice got = Choose(router, top_k, logits, bias);
    const Choice want = Slow(router, top_k, logits, bias);
    RC_ASSERT(got.experts == want.experts);
    for (size_t k = 0; k < got.weights.size(); ++k) {
      RC_ASSERT(std::fabs(got.weights[k] - want.weights[k]) <= 1e-5f * want.weights[k]);
    }
  }));
}

TEST(ChooseExperts, TheBiasChoosesButDoesNotWeigh) {
  const RouterShape router{.group_score = GroupScore::kNone, .normalise = false};
  const Choice choice = Choose(router, 1, {5, 0}, {-1, 0});
  EXPECT_EQ(choice.experts[0], 1);
  EXPECT_FLOAT_EQ(choice.weights[0], 0.5f);
}

TEST(ChooseExperts, TiesGoToTheLowerId) {
  const RouterShape router{.group_score = GroupScore::kTwoBest, .groups = 4, .kept_groups = 2};
  EXPECT_EQ(Choose(router, 3, std::vector<float>(8, 0.f), {}).experts, (std::vector<int32_t>{0, 1, 2}));
}

TEST(ChooseExperts, NegativeBiasedScoresAreStillChosenFromKeptGroupsOnly) {
  // All biased scores are negative: experts of cut groups must not slip in as zeros.
  const RouterShape router{.group_score = GroupScore::kTwoBest, .groups = 2, .kept_groups = 1};
  const Choice choice = Choose(router, 2, {3, 2, -3, -2}, std::vector<float>(4, -5.f));
  EXPECT_EQ(choice.experts, (std::vector<int32_t>{0, 1}));
}

}  // namespace
}  // namespace moraine
