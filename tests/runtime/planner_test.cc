// runtime/planner.h: the sums are right, and what does not fit is said in full.
#include "runtime/planner.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <nlohmann/json.hpp>

namespace moraine {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;
constexpr int64_t kExpert = 44'040'192;  // R1, FP8
constexpr int64_t kSlot = 44'077'056;

ModelShape R1() {
  ModelShape s;
  s.layers = 61;
  s.dense_layers = 3;
  s.experts = 256;
  s.top_k = 8;
  s.hidden = 7168;
  s.expert_inter = 2048;
  return s;
}

PlanRequest Request(int64_t ram) {
  PlanRequest r{.ram = {ram, "--ram"}, .process = kGiB / 10, .kv = 0.5 * static_cast<double>(kGiB)};
  r.weights[static_cast<size_t>(TensorClass::kAttention)] = 11 * kGiB;
  r.weights[static_cast<size_t>(TensorClass::kRouted)] = 160'000'000;
  r.scratch = 3e8;
  r.kv_bytes_per_token = 70272;
  r.expert_bytes = kExpert;
  r.classes = {{.node_bytes = {kSlot}, .layers = 58}};
  return r;
}

int64_t ClassBytes(const PlanTier& tier, const std::string& name) {
  for (const auto& [known, bytes] : tier.classes) {
    if (known == name) return bytes;
  }
  return -1;
}

TEST(Planner, FillsWhatIsLeftWithSlots) {
  const auto plan = MakePlan(R1(), Request(64 * kGiB));
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  const PlanTier& ram = plan->tier("ram");
  ASSERT_EQ(plan->slots.size(), 1u);
  EXPECT_LE(ram.used, ram.have);
  EXPECT_LT(ram.left(), kSlot) << "another slot would fit";
  EXPECT_EQ(ClassBytes(ram, "routed (slots)"), plan->slots[0] * kSlot);
  EXPECT_EQ(plan->tier("nvme").used, (14848 - plan->slots[0]) * kExpert);
  EXPECT_EQ(plan->experts_per_token, 464);
  EXPECT_FALSE(plan->holds_all);
  EXPECT_TRUE(plan->warnings.empty());
}

TEST(Planner, HoldsAllWhereAllFits) {
  const auto plan = MakePlan(R1(), Request(700 * kGiB));
  ASSERT_TRUE(plan.has_value());
  EXPECT_TRUE(plan->holds_all);
  EXPECT_EQ(plan->slots[0], 14848);
  EXPECT_EQ(plan->tier("nvme").used, 0);
}

TEST(Planner, BelowATokensDemandAWarningSaysWhatItCosts) {
  const auto plan = MakePlan(R1(), Request(16 * kGiB));
  ASSERT_TRUE(plan.has_value());
  ASSERT_LT(plan->slots[0], 464);
  ASSERT_EQ(plan->warnings.size(), 1u);
  EXPECT_NE(plan->warnings[0].find("464"), std::string::npos) << plan->warnings[0];
}

TEST(Planner, TheLeastIsTwoBatchesOfTopK) {
  PlanRequest request = Request(0);
  double fixed = request.kv + request.scratch + static_cast<double>(request.process);
  for (const int64_t bytes : request.weights) fixed += static_cast<double>(bytes);
  request.ram.bytes = static_cast<int64_t>(fixed) + 16 * kSlot + 1;
  const auto plan = MakePlan(R1(), request);
  ASSERT_TRUE(plan.has_value()) << plan.error().message;
  EXPECT_EQ(plan->slots[0], 16);
  request.ram.bytes -= 100;
  const auto refused = MakePlan(R1(), request);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::kDoesNotFit);
  for (const char* part :
       {"attention 11.00 GiB", "kv", "scratch", "process", "expert slots (at least)", "short by"})
    EXPECT_NE(refused.error().message.find(part), std::string::npos) << refused.error().message;
}

TEST(Planner, SizesThatOverflowAreRefusedNotWrapped) {
  PlanRequest request = Request(64 * kGiB);
  request.kv = 1e25;
  EXPECT_FALSE(MakePlan(R1(), request).has_value());
}

TEST(Planner, JsonHasTheSharedNames) {
  const auto plan = MakePlan(R1(), Request(64 * kGiB));
  const auto json = nlohmann::json::parse(PlanJson(R1(), *plan));
  EXPECT_EQ(json["schema"], 1);
  EXPECT_EQ(json["kv_bytes_per_token"], 70272);
  EXPECT_EQ(json["routed_experts"], 14848);
  EXPECT_EQ(json["experts_per_token"], 464);
  EXPECT_EQ(json["expert_bytes"], kExpert);
  int64_t sum = 0;
  for (const auto& [name, bytes] : json["tiers"][0]["classes"].items()) sum += bytes.get<int64_t>();
  EXPECT_EQ(sum, json["tiers"][0]["used"]);
  EXPECT_EQ(json["tiers"][0]["left"].get<int64_t>() + sum, json["tiers"][0]["have"]);
}

// What a small class leaves goes to the others.
TEST(Planner, AFullClassTakesNothingFromTheOthers) {
  ModelShape shape = R1();
  shape.experts = 2;
  shape.top_k = 2;
  PlanRequest request{.ram = {1000 + (2 * 1 + 2 * 100) * int64_t{4096}, "--ram"}, .process = 1000};
  request.classes = {{.node_bytes = {4096}, .layers = 1}, {.node_bytes = {4096}, .layers = 100}};
  const auto all = MakePlan(shape, request);
  ASSERT_TRUE(all.has_value());
  EXPECT_TRUE(all->holds_all);
  request.ram.bytes -= 4096;
  EXPECT_EQ(MakePlan(shape, request)->slots, (std::vector<int32_t>{2, 199}));
}

// Any classes, any budget: never more than there is, never fewer than the least, all when all fits.
TEST(Planner, Divides) {
  EXPECT_TRUE(rc::check([] {
    ModelShape shape = R1();
    shape.experts = *rc::gen::inRange(1, 300);
    shape.top_k = *rc::gen::inRange(1, std::min(16, shape.experts) + 1);
    PlanRequest request{.ram = {*rc::gen::inRange<int64_t>(0, 1 << 28), "--ram"}, .process = 1000};
    const int count = *rc::gen::inRange(1, 5);
    double all = 1000;
    for (int c = 0; c < count; ++c) {
      SlotClass size{.node_bytes = {*rc::gen::inRange<int64_t>(1, 20) * 4096},
                     .layers = *rc::gen::inRange(1, 30)};
      all += static_cast<double>(size.bytes() * size.layers * shape.experts);
      request.classes.push_back(size);
    }
    const auto plan = MakePlan(shape, request);
    RC_PRE(plan.has_value());
    RC_ASSERT(plan->tier("ram").used <= request.ram.bytes);
    for (size_t c = 0; c < request.classes.size(); ++c) {
      const int32_t keys = request.classes[c].layers * shape.experts;
      RC_ASSERT(plan->slots[c] >= std::min(keys, 2 * shape.top_k));
      RC_ASSERT(plan->slots[c] <= keys);
    }
    RC_ASSERT(plan->holds_all == (all <= static_cast<double>(request.ram.bytes)));
  }));
}

}  // namespace
}  // namespace moraine
