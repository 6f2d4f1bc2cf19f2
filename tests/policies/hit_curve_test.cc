// policies/hit_curve.h: the tables are what their recipes give, and more memory never does worse.
#include "policies/hit_curve.h"

#include <gtest/gtest.h>

#include "policies/replay.h"
#include "policies/synthetic_routing.h"

namespace moraine {
namespace {

double Replayed(double skew, double overlap, int32_t memory, double share) {
  const RoutingTrace trace =
      MakeRouting({.layers = 6, .tokens = 2000, .skew = skew, .overlap = overlap, .memory = memory});
  const auto slots = static_cast<int32_t>(share * 6 * 256 + 0.5);
  const auto result = Replay(trace, {.layers = 6, .experts = 256, .slots = slots, .staging = 16, .floor = 4},
                             EvictionOptions{});
  EXPECT_TRUE(result.has_value());
  const auto hits = static_cast<double>(result->decode.hits);
  return hits / (hits + static_cast<double>(result->decode.misses));
}

TEST(HitCurve, TheTablesAreWhatTheirRecipesGive) {
  EXPECT_NEAR(HitRateOf("drifting", 0.25).low, Replayed(0.6, 0.5, 64, 0.25), 0.002);
  EXPECT_NEAR(HitRateOf("drifting", 0.125).expected, Replayed(0.8, 0.4, 16, 0.125), 0.002);
  EXPECT_NEAR(HitRateOf("drifting", 0.5).expected, Replayed(0.8, 0.4, 16, 0.5), 0.002);
  EXPECT_NEAR(HitRateOf("drifting", 0.03).high, Replayed(1.0, 0.3, 16, 0.03), 0.002);
  EXPECT_NEAR(HitRateOf("even", 0.5).expected, Replayed(0, 0, 1, 0.5), 0.002);
}

TEST(HitCurve, NeverFallsAndStaysInOrder) {
  for (const std::string_view name : HitCurveNames()) {
    HitRate before;
    for (int i = 0; i <= 1000; ++i) {
      const HitRate rate = HitRateOf(name, i / 1000.0);
      EXPECT_LE(rate.low, rate.expected);
      EXPECT_LE(rate.expected, rate.high);
      EXPECT_GE(rate.low, before.low);
      EXPECT_GE(rate.expected, before.expected);
      EXPECT_GE(rate.high, before.high);
      before = rate;
    }
    EXPECT_EQ(before.expected, 1);
    EXPECT_EQ(HitRateOf(name, -1).expected, 0);
  }
}

TEST(HitCurve, AnUnknownNameIsRefusedWithTheList) {
  const Status status = CheckHitCurve("nope");
  ASSERT_FALSE(status.has_value());
  EXPECT_NE(status.error().message.find("drifting, even"), std::string::npos) << status.error().message;
}

}  // namespace
}  // namespace moraine
