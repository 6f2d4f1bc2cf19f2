// runtime/sampler.h: greedy, filters, penalties, and a draw that follows the probabilities.
#include "runtime/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

namespace moraine {
namespace {

const std::vector<float> kLogits = {0.f, 2.f, 1.f, -1.f, 2.f};

std::map<int32_t, int> Draws(SamplingOptions options, const std::vector<float>& logits, int count) {
  std::map<int32_t, int> seen;
  for (int i = 0; i < count; ++i) {
    options.seed = static_cast<uint64_t>(i);
    ++seen[Sampler(options).Sample(logits)];
  }
  return seen;
}

TEST(Sampler, GreedyTakesTheLowerIdAtATie) { EXPECT_EQ(Sampler({.temperature = 0}).Sample(kLogits), 1); }

TEST(Sampler, DrawsFollowTheSoftmax) {
  const auto seen = Draws({.temperature = 0.7f, .top_p = 1}, kLogits, 20000);
  double sum = 0;
  for (const float logit : kLogits) sum += std::exp(static_cast<double>(logit) / 0.7);
  for (size_t token = 0; token < kLogits.size(); ++token) {
    const double want = std::exp(static_cast<double>(kLogits[token]) / 0.7) / sum;
    // Five standard deviations of a binomial share.
    EXPECT_NEAR(
        seen.count(static_cast<int32_t>(token)) != 0 ? seen.at(static_cast<int32_t>(token)) / 20000.0 : 0.0,
        want, 5 * std::sqrt(want * (1 - want) / 20000));
  }
}

TEST(Sampler, FiltersKeepExactlyTheirShare) {
  EXPECT_EQ(Draws({.temperature = 1, .top_k = 2, .top_p = 1}, kLogits, 500).size(), 2u);
  EXPECT_EQ(Draws({.temperature = 1, .top_k = 3, .top_p = 1}, kLogits, 500).size(), 3u);
  // Probabilities .377 .377 .139 .051 .019 ...: the two best reach 0.7, the third is needed for 0.8.
  EXPECT_EQ(Draws({.temperature = 1, .top_p = 0.7f}, kLogits, 500).size(), 2u);
  EXPECT_EQ(Draws({.temperature = 1, .top_p = 0.8f}, kLogits, 500).size(), 3u);
  EXPECT_EQ(Draws({.temperature = 1, .top_p = 1e-6f}, kLogits, 50).size(), 1u);
  EXPECT_EQ(Draws({.temperature = 1, .top_p = 1, .min_p = 0.3f}, kLogits, 500).size(), 3u);
  EXPECT_EQ(Draws({.temperature = 1, .top_p = 1, .min_p = 0.9f}, kLogits, 500).size(), 2u);
}

TEST(Sampler, WhatIsForbiddenIsNeverChosen) {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  const std::vector<float> logits = {kNever, kNever, -40.f, kNever, 3.f};
  EXPECT_EQ(Draws({.temperature = 1, .top_p = 1}, {kNever, kNever, -40.f, kNever, kNever}, 50).size(), 1u);
  EXPECT_EQ(Draws({.temperature = 50, .top_p = 1, .repetition_penalty = 0.5f}, logits, 500).size(), 2u);
  EXPECT_EQ(Sampler({.temperature = 0}).Sample(std::vector<float>{kNever, kNever, -40.f}), 2);
}

TEST(Sampler, PenaltiesCountWhatWasSeen) {
  Sampler repetition({.temperature = 0, .repetition_penalty = 3.f});
  repetition.Accept(std::vector<int32_t>{1});
  EXPECT_EQ(repetition.Sample(kLogits), 4) << "2 / 3 lost against 2";
  Sampler presence({.temperature = 0, .presence_penalty = 1.5f});
  presence.Accept(std::vector<int32_t>{1});
  EXPECT_EQ(presence.Sample(kLogits), 1) << "the prompt is not presence";
  EXPECT_EQ(presence.Sample(kLogits), 4);
  EXPECT_EQ(presence.Sample(kLogits), 2);
  Sampler frequency({.temperature = 0, .frequency_penalty = 0.4f});
  std::map<int32_t, int> seen;
  for (int i = 0; i < 12; ++i) ++seen[frequency.Sample(kLogits)];
  EXPECT_GE(seen[2], 2);
}

TEST(Sampler, TheSameSeedGivesTheSameTokens) {
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}}) {
    Sampler a({.temperature = 1.5f, .seed = seed});
    Sampler b({.temperature = 1.5f, .seed = seed});
    for (int i = 0; i < 200; ++i) ASSERT_EQ(a.Sample(kLogits), b.Sample(kLogits));
  }
  Sampler a({.temperature = 1.5f, .seed = 1});
  Sampler b({.temperature = 1.5f, .seed = 2});
  int differ = 0;
  for (int i = 0; i < 200; ++i) differ += a.Sample(kLogits) != b.Sample(kLogits) ? 1 : 0;
  EXPECT_GT(differ, 20);
}

TEST(CheckSampling, NamesWhatCannotBe) {
  const float nan = std::nanf("");
  for (const SamplingOptions& bad : {SamplingOptions{.temperature = -1},
                                     {.temperature = nan},
                                     {.top_k = -1},
                                     {.top_p = 0},
                                     {.top_p = 1.5f},
                                     {.top_p = nan},
                                     {.min_p = 1},
                                     {.min_p = -1},
                                     {.repetition_penalty = 0},
                                     {.presence_penalty = nan},
                                     {.frequency_penalty = INFINITY}}) {
    const Status status = CheckSampling(bad);
    ASSERT_FALSE(status.has_value());
    EXPECT_EQ(status.error().kind, ErrorKind::kUsage);
  }
  EXPECT_TRUE(CheckSampling({}).has_value());
}

}  // namespace
}  // namespace moraine
