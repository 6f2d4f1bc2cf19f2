// Plan and forecast together over random models and machines: nothing wraps, nothing is negative, and more
// memory never makes a plan smaller or slower. MORAINE_CASES=10000000 for a long run.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <random>
#include <string>

#include "runtime/forecast.h"
#include "runtime/planner.h"

namespace moraine {
namespace {

struct Random {
  std::mt19937_64 engine;
  // Every order of magnitude as likely.
  double Real(double low, double high) {
    return low * std::pow(high / low, std::uniform_real_distribution<double>()(engine));
  }
  int64_t Whole(double low, double high) { return static_cast<int64_t>(Real(low, high)); }
};

struct Case {
  ModelShape shape;
  PlanRequest request;
  ModelWork work;
  Rates rates;
  ForecastOptions options;
};

Case MakeCase(Random& random) {
  Case c;
  c.shape.dense_layers = static_cast<int32_t>(random.Whole(1, 5));
  c.shape.experts = static_cast<int32_t>(random.Whole(1, 2000));
  c.shape.top_k = static_cast<int32_t>(random.Whole(1, std::min(64, c.shape.experts) + 1));
  PlanRequest& r = c.request;
  r.ram = {random.Whole(1e6, 4e18), "--ram"};
  r.process = random.Whole(1e6, 1e9);
  r.kv = random.Real(1, 1e24);
  r.scratch = random.Real(1, 1e20);
  for (int64_t& bytes : r.weights) bytes = random.Whole(1, 1e13);
  r.kv_bytes_per_token = random.Whole(1, 1e8);
  const auto classes = random.Whole(1, 5);
  for (int64_t i = 0; i < classes; ++i)
    r.classes.push_back(
        {.node_bytes = {4096 * random.Whole(1, 1e7)}, .layers = static_cast<int32_t>(random.Whole(1, 100))});
  r.expert_bytes = r.classes.front().bytes();
  for (const SlotClass& size : r.classes) c.shape.layers += size.layers;
  c.work.moe_layers = c.shape.layers;
  c.shape.layers += c.shape.dense_layers;
  c.work.layers = c.shape.layers;
  c.work.experts = c.shape.experts;
  c.work.top_k = c.shape.top_k;
  c.work.expert = {.bytes = static_cast<double>(r.expert_bytes),
                   .weights = static_cast<double>(r.expert_bytes)};
  c.work.dense = {{.bytes = random.Real(1, 1e13), .weights = random.Real(1, 1e13)}};
  c.work.shared.bytes = c.work.dense[0].bytes * std::uniform_real_distribution<double>()(random.engine);
  c.work.head.bytes = random.Real(1, 1e11);
  c.work.attention_flops = random.Real(1, 1e10);
  c.work.prompt_flops = random.Real(1, 1e10);
  c.work.kv_bytes = static_cast<double>(r.kv_bytes_per_token);
  c.rates.memory_read.value = random.Real(1e8, 1e13);
  c.rates.drive_read.value = random.Real(1e5, 1e12);
  c.rates.attention_flops.value = random.Real(1e8, 1e15);
  c.options.position = random.Real(1, 1e6);
  c.options.prompt_tokens = random.Real(1, 1e6);
  c.options.chunk = static_cast<double>(random.Whole(1, 4096));
  return c;
}

Forecast ForecastOf(Case& c, const Plan& plan) {
  c.options.hits = HitRateOf("drifting", SlotShare(plan));
  return MakeForecast(c.work, plan, c.rates, c.options);
}

// Empty, or what is wrong.
std::string Fault(const Plan& plan, const Forecast& forecast) {
  for (const PlanTier& tier : plan.tiers) {
    if (tier.have < 0 || tier.used < 0 || tier.left() < 0) return "tier " + tier.name;
    int64_t sum = 0;
    for (const auto& [name, bytes] : tier.classes) {
      if (bytes < 0) return "class " + name;
      sum += bytes;
    }
    if (sum != tier.used) return "sum of " + tier.name;
  }
  const auto sound = [](double value) { return std::isfinite(value) && value >= 0; };
  for (const Speed* speed : {&forecast.decode, &forecast.prefill}) {
    if (!sound(speed->tok_s) || !sound(speed->low) || !sound(speed->high)) return "speed";
    if (speed->low > speed->tok_s || speed->tok_s > speed->high) return "range";
  }
  if (!sound(forecast.first_token_s) || !sound(forecast.load_s) || !sound(forecast.nvme_bytes_per_token))
    return "time";
  return "";
}

TEST(PlanForecast, MoreMemoryIsNeverSmallerOrSlower) {
  const char* asked = std::getenv("MORAINE_CASES");
  const int64_t cases = asked == nullptr ? 20'000 : std::atoll(asked);
  int64_t planned = 0;
  for (int64_t i = 0; i < cases; ++i) {
    Random random{std::mt19937_64(static_cast<uint64_t>(i))};
    Case c = MakeCase(random);
    const auto plan = MakePlan(c.shape, c.request);
    c.request.ram.bytes = static_cast<int64_t>(static_cast<double>(c.request.ram.bytes) * random.Real(1, 2));
    const auto richer = MakePlan(c.shape, c.request);
    if (!plan.has_value()) continue;
    ++planned;
    ASSERT_TRUE(richer.has_value()) << "case " << i;
    for (size_t s = 0; s < plan->slots.size(); ++s)
      ASSERT_LE(plan->slots[s], richer->slots[s]) << "case " << i;
    const Forecast before = ForecastOf(c, *plan);
    const Forecast after = ForecastOf(c, *richer);
    ASSERT_EQ(Fault(*plan, before), "") << "case " << i;
    ASSERT_EQ(Fault(*richer, after), "") << "case " << i;
    ASSERT_GE(after.decode.tok_s, before.decode.tok_s * (1 - 1e-9)) << "case " << i;
    ASSERT_GE(after.prefill.tok_s, before.prefill.tok_s * (1 - 1e-9)) << "case " << i;
  }
  EXPECT_GT(planned, cases / 50) << "too few cases fit for this to mean anything";
}

}  // namespace
}  // namespace moraine
