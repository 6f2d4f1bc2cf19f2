// The arithmetic of a rehearsal, and moraine rehearse itself: what it writes, refuses and leaves.
#include "tools/rehearsal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "runtime/planner.h"
#include "tests/support/moraine_process.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_model.h"

namespace moraine::tools {
namespace {

namespace fs = std::filesystem;
using test::RunMoraine;
using ::testing::HasSubstr;

constexpr int64_t kGiB = int64_t{1} << 30;

ModelShape Shape(int32_t layers, int32_t dense) {
  ModelShape shape;
  shape.layers = layers;
  shape.dense_layers = dense;
  shape.experts = 256;
  shape.top_k = 8;
  return shape;
}

// R1 in FP8, roughly.
const RehearsalBytes kR1 = {5 * kGiB, 11 * kGiB};

RehearsalLayers Chosen(const ModelShape& shape, const RehearsalBytes& bytes, int64_t disk, int32_t most = 4) {
  const auto layers = ChooseLayers(shape, bytes, disk, most);
  EXPECT_TRUE(layers.has_value()) << layers.error().message;
  EXPECT_LE(layers.value_or(RehearsalLayers{}).bytes, disk);
  return layers.value_or(RehearsalLayers{});
}

TEST(ChooseLayers, TakesWhatTheDriveHolds) {
  const ModelShape r1 = Shape(61, 3);
  RehearsalLayers one = Chosen(r1, kR1, 22 * kGiB);
  EXPECT_EQ(one.low, 0);
  EXPECT_EQ(one.high, 1);
  one = Chosen(r1, kR1, 33 * kGiB);
  EXPECT_EQ(one.high, 2);
  const RehearsalLayers more = Chosen(r1, kR1, 55 * kGiB);
  EXPECT_EQ(more.low, 1);
  EXPECT_EQ(more.high, 3);
  EXPECT_EQ(Chosen(r1, kR1, 1000 * kGiB).high, 4) << "most";
  EXPECT_EQ(Chosen(Shape(5, 3), kR1, 1000 * kGiB).high, 2) << "all there are";
  EXPECT_EQ(Chosen(Shape(8, 0), kR1, 1000 * kGiB).low, 1) << "no layers at all cannot run";
}

TEST(ChooseLayers, SaysWhatIsShort) {
  const auto short_of = ChooseLayers(Shape(61, 3), kR1, 20 * kGiB, 4);
  ASSERT_FALSE(short_of.has_value());
  EXPECT_EQ(short_of.error().kind, ErrorKind::kDoesNotFit);
  EXPECT_THAT(short_of.error().message, HasSubstr("short by 1.02 GiB"));
  EXPECT_FALSE(ChooseLayers(Shape(8, 0), kR1, 30 * kGiB, 4).has_value()) << "three layers in two folders";
  EXPECT_EQ(ChooseLayers(Shape(3, 3), kR1, 1000 * kGiB, 4).error().kind, ErrorKind::kUsage);
}

TEST(RehearsalSlots, KeepThePlansShare) {
  const ModelShape shape = Shape(61, 3);
  Plan plan;
  plan.routed_experts = 58 * 256;
  plan.slots = {58 * 256 / 4};
  EXPECT_EQ(RehearsalSlots(shape, plan, 2), 128);
  plan.slots = {20};
  EXPECT_EQ(RehearsalSlots(shape, plan, 2), StagingSlots(8, 0)) << "no fewer than a step needs";
  plan.holds_all = true;
  EXPECT_FALSE(RehearsalSlots(shape, plan, 2));
}

TEST(Extrapolate, IsExactWhereTimesAreLinear) {
  // 7 ms and 2 ms a layer.
  const std::vector<RehearsalPair> pairs = {{0.009, 0.015}, {0.009, 0.015}, {0.018, 0.030}};
  const auto e = Extrapolate(pairs, {.low = 1, .high = 4}, 58);
  ASSERT_TRUE(e.has_value());
  EXPECT_NEAR(e->rest_s, 0.007, 1e-12);
  EXPECT_NEAR(e->moe_layer_s, 0.002, 1e-12);
  EXPECT_NEAR(e->step_s, 0.123, 1e-12);
  EXPECT_NEAR(e->fastest_s, 0.123, 1e-12);
  EXPECT_NEAR(e->slowest_s, 0.246, 1e-12) << "a slow while, in both rehearsals";
}

TEST(Extrapolate, WhatGoesBackwardsIsNoMeasurement) {
  const std::vector<RehearsalPair> pairs = {{0.009, 0.008}, {0.009, 0.008}};
  EXPECT_FALSE(Extrapolate(pairs, {.low = 0, .high = 1}, 58).has_value());
  EXPECT_FALSE(Extrapolate({}, {.low = 0, .high = 1}, 58).has_value());
}

// 8 layers of which 2 are dense, with sizes that groups of 64 divide.
std::string SmallConfig(const test::TempFolder& folder) {
  auto config = test::MakeTestModel().config;
  config["hidden_size"] = 128;
  config["moe_intermediate_size"] = 64;
  config["num_hidden_layers"] = 8;
  config["first_k_dense_replace"] = 2;
  test::WriteFile(folder / "small.json", config.dump());
  return folder / "small.json";
}

TEST(Rehearse, SaysWhatWasMeasuredAndWhatFollowsAndLeavesNothing) {
  const test::TempFolder folder;
  const std::string config = SmallConfig(folder);
  fs::create_directory(folder / "dir");
  for (const char* format : {"bf16", "fp8", "int4-g64"}) {
    const auto result = RunMoraine({"rehearse", config, "--format", format, "--dir", folder / "dir",
                                    "--prompt-tokens", "24", "--tokens", "64", "--json"});
    // A machine that other work shakes may refuse its own figures.
    ASSERT_TRUE(result.exit_code == 0 || result.exit_code == 5) << result.err;
    EXPECT_TRUE(fs::is_empty(folder / "dir"));
    if (result.exit_code == 5) continue;
    const auto json = nlohmann::json::parse(result.out);
    EXPECT_EQ(json["measured"]["moe_layers"], nlohmann::json({1, 4}));
    EXPECT_EQ(json["moe_layers"], 6);
    EXPECT_EQ(json["measured"]["token_s"].size(), 4u);
    const double step =
        json["decode"]["rest_s"].get<double>() + 6 * json["decode"]["moe_layer_s"].get<double>();
    EXPECT_TRUE(step > 0 && std::isfinite(step));
    for (const char* what : {"decode", "prefill"}) {
      const double speed = json[what]["tok_s"];
      EXPECT_TRUE(speed > 0 && std::isfinite(speed));
      EXPECT_LE(json[what]["low"].get<double>(), speed);
    }
    EXPECT_EQ(json["slot_share"], 1);
    EXPECT_GT(json["forecast"]["fitcheck"]["decode_tok_s"].get<double>(), 0);
  }
}

TEST(Rehearse, RunsWithTheSlotsThatThePlanLeaves) {
  const test::TempFolder folder;
  const auto result = RunMoraine({"rehearse", SmallConfig(folder), "--set", "cache.slots=24", "--dir",
                                  folder.path(), "--prompt-tokens", "8", "--tokens", "16", "--json"});
  ASSERT_TRUE(result.exit_code == 0 || result.exit_code == 5) << result.err;
  if (result.exit_code == 5) return;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_EQ(json["slot_share"], 0.5);
  EXPECT_EQ(json["measured"]["slot_share"], 0.5);
  EXPECT_LT(json["measured"]["hit_rate"].get<double>(), 1);
}

TEST(Rehearse, RefusesWithTheShortfall) {
  const test::TempFolder folder;
  const auto r1 = RunMoraine({"rehearse", "deepseek-r1", "--disk", "8GiB", "--ctx", "512", "--ram", "24GiB",
                              "--set", "cache.slots=64", "--dir", folder.path()});
  EXPECT_EQ(r1.exit_code, 1) << r1.err;
  EXPECT_THAT(r1.err, HasSubstr("short by"));
  EXPECT_TRUE(fs::is_empty(folder.path()));
  EXPECT_EQ(RunMoraine({"rehearse", "gpt-5"}).exit_code, 2);
  EXPECT_EQ(RunMoraine({"rehearse", SmallConfig(folder), "--tokens", "1"}).exit_code, 2);
  EXPECT_EQ(RunMoraine({"rehearse", SmallConfig(folder), "--disk", "much"}).exit_code, 2);
  EXPECT_EQ(RunMoraine({"rehearse", SmallConfig(folder), "--ram", "1MiB"}).exit_code, 1);
}

TEST(Rehearse, CtrlCLeavesNothing) {
  const test::TempFolder folder;
  const auto stopped =
      RunMoraine({"rehearse", "moonlight", "--disk", "12GiB", "--ctx", "512", "--dir", folder.path()},
                 {.interrupt_after_ms = 700});
  EXPECT_EQ(stopped.exit_code, 130) << stopped.err;
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

}  // namespace
}  // namespace moraine::tools
