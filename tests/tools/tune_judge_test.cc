// What counts as a gain: repeatable, above the noise, of a size that matters.
#include "tools/tune_judge.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace moraine::tools {
namespace {

Verdict Of(std::vector<double> ratios, double gain = kLeastGain) { return Judge(ratios, gain); }

TEST(TuneJudge, AClearGainIsAcceptedAfterThreeRounds) {
  EXPECT_EQ(Of({}), Verdict::kUndecided);
  EXPECT_EQ(Of({1.05, 1.06}), Verdict::kUndecided);
  EXPECT_EQ(Of({1.05, 1.06, 1.04}), Verdict::kAccepted);
  EXPECT_EQ(Of({1.05, 1.06, 1.02}), Verdict::kUndecided);
}

TEST(TuneJudge, FiveRoundsDecide) {
  EXPECT_EQ(Of({1.05, 1.06, 1.02, 0.99, 1.04}), Verdict::kAccepted);
  EXPECT_EQ(Of({1.05, 1.06, 1.02, 1.01, 1.02}), Verdict::kRejected) << "the median is 1.02";
  EXPECT_EQ(Of({1.05, 1.06, 0.99, 0.98}), Verdict::kRejected) << "two rounds were lost";
}

TEST(TuneJudge, WhatCannotWinAnyMoreEndsEarly) {
  EXPECT_EQ(Of({0.99, 1.0}), Verdict::kRejected);
  EXPECT_EQ(Of({1.01, 1.02, 1.02}), Verdict::kRejected);
  EXPECT_EQ(Of({0.7}), Verdict::kRejected);
  EXPECT_EQ(Of({0.7}, 1.5), Verdict::kUndecided) << "noise can do that";
  EXPECT_EQ(Of({1.2, NAN}), Verdict::kRejected);
}

TEST(TuneJudge, NoiseRaisesWhatIsAskedFor) {
  EXPECT_EQ(Of({1.05, 1.06, 1.04}, 1.10), Verdict::kRejected);
  Noise noise;
  EXPECT_EQ(noise.gain(), kLeastGain);
  noise.Add(1.1);
  noise.Add(1 / 1.1);
  EXPECT_EQ(noise.gain(), kLeastGain) << "two samples are none";
  noise.Add(1.1);
  EXPECT_NEAR(noise.deviation(), 1.4826 * std::log(1.1), 1e-9);
  EXPECT_NEAR(noise.gain(), std::exp(1.2 * noise.deviation()), 1e-9);
  Noise quiet;
  for (const double ratio : {1.001, 0.999, 1.002, 0.998, 3.0}) quiet.Add(ratio);
  EXPECT_EQ(quiet.gain(), kLeastGain) << "one stray run";
}

TEST(TuneJudge, DeviationOfNormalNoiseIsFound) {
  std::mt19937 random(1);
  std::normal_distribution<double> normal(0, 0.05);
  Noise noise;
  for (int i = 0; i < 1000; ++i) noise.Add(std::exp(normal(random)));
  EXPECT_NEAR(noise.deviation(), 0.05, 0.005);
}

}  // namespace
}  // namespace moraine::tools
