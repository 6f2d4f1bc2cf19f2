// The search for a policy on landscapes that are made up: it finds what is there, and nothing in noise.
#include "tools/tune_search.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

namespace moraine::tools {
namespace {

// Seconds as a function of the point, with noise of a given deviation, on a clock that only runs advance.
class FakeRunner : public TuneRunner {
 public:
  using Landscape = std::function<double(const TunePoint&)>;
  FakeRunner(Landscape seconds, double noise, uint32_t seed = 1)
      : seconds_(std::move(seconds)), noise_(noise), random_(seed) {}

  Result<TuneRun> Run(const TunePoint& point, bool held_out) override {
    ++runs;
    if (held_out && held_out_seconds) {
      clock_ += held_out_seconds(point);
      return TuneRun{.seconds = held_out_seconds(point)};
    }
    if (fail && point == *fail) return Fail(fail_kind, "no room");
    const double seconds = seconds_(point) * std::exp(noise_ * std::normal_distribution<double>()(random_));
    clock_ += seconds;
    return TuneRun{.seconds = seconds};
  }
  double Elapsed() const override { return clock_; }

  int runs = 0;
  Landscape held_out_seconds;  // empty: as the rest
  std::optional<TunePoint> fail;
  ErrorKind fail_kind = ErrorKind::kDoesNotFit;

 private:
  Landscape seconds_;
  double noise_;
  std::mt19937 random_;
  double clock_ = 0;
};

const std::vector<TuneAxis> kAxes = {
    {"depth", 7, 0, 3, true}, {"mode", 3, 1, 1, false}, {"chunk", 5, 2, 2, true}};

TuneOutcome Search(FakeRunner* runner, const std::vector<TuneAxis>& axes = kAxes, double limit_s = 1e9) {
  auto outcome = TuneSearch(axes, runner, {.limit_s = limit_s});
  EXPECT_TRUE(outcome.has_value()) << outcome.error().message;
  return outcome.value_or(TuneOutcome{});
}

// Lowest at depth 5, mode 2, chunk 1; each step towards it gains a tenth or more.
double Valley(const TunePoint& p) {
  return 10 * std::pow(1.3, std::abs(static_cast<double>(p[0]) - 5)) * (p[1] == 2 ? 0.8 : 1) *
         std::pow(1.1, std::abs(static_cast<double>(p[2]) - 1));
}

TEST(TuneSearch, FindsTheLowestPointOfAValley) {
  for (const double noise : {0.0, 0.01}) {
    FakeRunner runner(Valley, noise);
    const TuneOutcome outcome = Search(&runner);
    EXPECT_EQ(outcome.best, (TunePoint{5, 2, 1})) << noise;
    EXPECT_EQ(outcome.found, outcome.best);
    EXPECT_GE(outcome.held_ratios.size(), 3u);
    ASSERT_TRUE(outcome.before && outcome.after);
    EXPECT_GT(outcome.before->seconds, 3 * outcome.after->seconds);
    EXPECT_FALSE(outcome.out_of_time);
  }
}

TEST(TuneSearch, TriesWhatTheProgramWouldChooseFirst) {
  FakeRunner runner(Valley, 0);
  const TuneOutcome outcome = Search(&runner);
  EXPECT_EQ(outcome.trials[0].axis, 0u);
  EXPECT_EQ(outcome.trials[0].to, 3u);
}

// What one axis gains only after another has moved is found by a second pass.
TEST(TuneSearch, ComesBackToAnAxisWhenAnotherHasChanged) {
  const auto coupled = [](const TunePoint& p) {
    const double chunk = p[2] == 3 ? 0.8 : 1;
    return 10 * chunk * (p[0] == 1 && p[2] == 3 ? 0.7 : 1);
  };
  FakeRunner runner(coupled, 0);
  const TuneOutcome outcome = Search(&runner);
  EXPECT_EQ(outcome.best[0], 1u);
  EXPECT_EQ(outcome.best[2], 3u);
}

TEST(TuneSearch, StaysInNoise) {
  int changed = 0;
  for (uint32_t seed = 0; seed < 300; ++seed) {
    FakeRunner runner([](const TunePoint&) { return 10.0; }, seed % 2 == 0 ? 0.02 : 0.1, seed);
    const TuneOutcome outcome = Search(&runner);
    changed += outcome.best == outcome.start ? 0 : 1;
  }
  EXPECT_LE(changed, 3) << "of 300 searches";
}

TEST(TuneSearch, FindsFivePercentInNoiseOfOne) {
  int found = 0;
  for (uint32_t seed = 0; seed < 100; ++seed) {
    FakeRunner runner([](const TunePoint& p) { return p[1] == 2 ? 10 / 1.05 : 10.0; }, 0.01, seed);
    const TuneOutcome outcome = Search(&runner);
    found += outcome.best[1] == 2 ? 1 : 0;
  }
  EXPECT_GE(found, 80) << "of 100 searches";
}

TEST(TuneSearch, WhatTheHeldOutPromptsDoNotConfirmIsDropped) {
  FakeRunner runner(Valley, 0);
  runner.held_out_seconds = [](const TunePoint&) { return 10.0; };
  const TuneOutcome outcome = Search(&runner);
  EXPECT_EQ(outcome.found, (TunePoint{5, 2, 1}));
  EXPECT_EQ(outcome.best, outcome.start);
}

TEST(TuneSearch, StopsInTimeWithTheFinalCheckMade) {
  FakeRunner free(Valley, 0);
  Search(&free);
  FakeRunner runner(Valley, 0);
  const TuneOutcome outcome = Search(&runner, kAxes, 0.9 * free.Elapsed());
  EXPECT_TRUE(outcome.out_of_time);
  EXPECT_LE(runner.Elapsed(), 0.9 * free.Elapsed());
  EXPECT_NE(outcome.best, outcome.start);
  EXPECT_FALSE(outcome.held_ratios.empty());
  FakeRunner none(Valley, 0);
  EXPECT_EQ(Search(&none, kAxes, 1).best, outcome.start);
  EXPECT_EQ(none.runs, 4);
}

TEST(TuneSearch, AValueThatCannotRunIsPassedOver) {
  FakeRunner runner(Valley, 0);
  runner.fail = TunePoint{3, 1, 2};  // the first that is tried
  const TuneOutcome outcome = Search(&runner);
  EXPECT_EQ(outcome.trials[0].refused, "no room");
  EXPECT_EQ(outcome.trials[0].verdict, Verdict::kRejected);
  EXPECT_GT(outcome.best[0], 0u);
}

TEST(TuneSearch, OtherErrorsAndThoseOfTheStartEndIt) {
  FakeRunner drive(Valley, 0);
  drive.fail = TunePoint{3, 1, 2};
  drive.fail_kind = ErrorKind::kIo;
  auto outcome = TuneSearch(kAxes, &drive, {.limit_s = 1e9});
  ASSERT_FALSE(outcome.has_value());
  EXPECT_EQ(outcome.error().kind, ErrorKind::kIo);
  FakeRunner start(Valley, 0);
  start.fail = TunePoint{0, 1, 2};
  EXPECT_FALSE(TuneSearch(kAxes, &start, {.limit_s = 1e9}).has_value());
}

TEST(TuneSearch, NothingToSearchIsNoError) {
  FakeRunner runner(Valley, 0);
  EXPECT_TRUE(Search(&runner, {{"depth", 1, 0, 0, true}, {"mode", 1, 0, 0, false}, {"chunk", 1, 0, 0, true}})
                  .trials.empty());
}

}  // namespace
}  // namespace moraine::tools
