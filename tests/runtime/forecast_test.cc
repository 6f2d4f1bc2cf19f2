// runtime/forecast.h: times follow from bytes and rates, the right resource is named, and nothing a user buys
// makes it worse.
#include "runtime/forecast.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cmath>

namespace moraine {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

// R1 in FP8, by its published sizes.
ModelWork R1() {
  ModelWork w;
  w.dense = {{.format = WeightFormat::kFp8E4M3Block, .group = 128, .bytes = 15.5e9, .weights = 15.5e9}};
  w.shared = {.format = WeightFormat::kFp8E4M3Block, .group = 128, .bytes = 2.55e9, .weights = 2.55e9};
  w.head = {.format = WeightFormat::kBf16, .bytes = 1.85e9, .weights = 0.93e9};
  w.expert = {.format = WeightFormat::kFp8E4M3Block, .group = 128, .bytes = 44.05e6, .weights = 44.04e6};
  w.moe_layers = 58;
  w.layers = 61;
  w.experts = 256;
  w.top_k = 8;
  w.attention_flops = 2.0 * 61 * 128 * (2 * 512 + 64);
  w.prompt_flops = 2.0 * 61 * 128 * (256 + 64);
  w.expansion_flops = 2.0 * 61 * 128 * 512 * 256;
  w.kv_bytes = 70272;
  w.stored_bytes = 671e9;
  w.embedding_row_bytes = 14336;
  return w;
}

Figure Measured(double value) { return {value, Origin::kMeasured, "test"}; }

Rates Machine(double memory, double drive) {
  Rates rates;
  rates.memory_read = Measured(memory);
  rates.drive_read = Measured(drive);
  rates.attention_flops = Measured(100e9);
  for (const WeightFormat format : {WeightFormat::kFp8E4M3Block, WeightFormat::kBf16}) {
    ExpertRate rate{.format = format,
                    .group = format == WeightFormat::kBf16 ? 0 : 128,
                    .decode_bytes_s = Measured(0.9 * memory)};
    rate.prefill = {{64, Measured(800e9)}, {512, Measured(1600e9)}};
    rates.experts.push_back(rate);
  }
  return rates;
}

Plan PlanOf(int32_t slots) {
  Plan plan;
  plan.routed_experts = 58 * 256;
  plan.experts_per_token = 464;
  plan.slots = {slots};
  plan.holds_all = slots == 58 * 256;
  return plan;
}

ForecastOptions Options(double hits) {
  ForecastOptions o;
  o.position = 0;
  o.hits = {hits, hits, hits};
  return o;
}

TEST(Forecast, AllInMemoryATokenTakesItsBytesOverTheirRate) {
  const Forecast f = MakeForecast(R1(), PlanOf(58 * 256), Machine(100e9, 1e9), Options(0.1));
  const double bytes = 15.5e9 + 1.85e9 + 464 * 44.05e6;
  EXPECT_NEAR(f.decode.tok_s, 1 / (bytes / 90e9 + 61 * 60e-6), 1e-6);
  EXPECT_EQ(f.decode.limit, "ram");
  EXPECT_EQ(f.hits.expected, 1);
  EXPECT_LT(f.decode.low, f.decode.tok_s);
  EXPECT_GT(f.decode.high, f.decode.tok_s);
  EXPECT_NEAR(f.load_s, 671.0, 0.1);
}

TEST(Forecast, WithASlowDriveWhatIsMissingDecides) {
  const Forecast f = MakeForecast(R1(), PlanOf(1000), Machine(400e9, 1e9), Options(0.4));
  const double missing = 0.6 * 464 * 44.05e6;
  EXPECT_EQ(f.decode.limit, "nvme");
  EXPECT_NEAR(f.nvme_bytes_per_token, missing + 14336, 1);
  // The drive alone would give this; compute beside it and after it costs a little more.
  EXPECT_LT(f.decode.tok_s, 1e9 / missing);
  EXPECT_GT(f.decode.tok_s, 0.9e9 / missing);
}

TEST(Forecast, NothingHitEverythingIsRead) {
  const Forecast none = MakeForecast(R1(), PlanOf(16), Machine(400e9, 1e9), Options(0));
  EXPECT_NEAR(none.nvme_bytes_per_token, 464 * 44.05e6 + 14336, 1);
  EXPECT_GT(none.decode.tok_s, 0);
}

TEST(Forecast, WeightsThatInstructionsBoundAreTheProcessors) {
  Rates rates = Machine(100e9, 1e9);
  for (ExpertRate& rate : rates.experts) rate.decode_bytes_s = Measured(45e9);
  EXPECT_EQ(MakeForecast(R1(), PlanOf(58 * 256), rates, Options(1)).decode.limit, "cpu");
}

TEST(Forecast, ALongCacheCostsArithmetic) {
  ForecastOptions far = Options(1);
  far.position = 100'000;
  const Forecast f = MakeForecast(R1(), PlanOf(58 * 256), Machine(400e9, 1e9), far);
  EXPECT_EQ(f.decode.limit, "cpu");
  EXPECT_LT(f.decode.tok_s, 100e9 / (R1().attention_flops * far.position));
}

TEST(Forecast, PromptsReadWhatHasNoSlotOnceAChunk) {
  ForecastOptions o = Options(0.5);
  o.prompt_tokens = 512;
  o.chunk = 256;
  const Forecast f = MakeForecast(R1(), PlanOf(58 * 128), Machine(400e9, 1e9), o);
  EXPECT_EQ(f.prefill.limit, "nvme");
  double drive = 0;
  for (const Stage& stage : f.prefill.stages) {
    if (stage.resource == "nvme") drive = stage.seconds;
  }
  // 256 rows of 8 touch 255.9 of 256 experts; half of them have no slot; two chunks.
  EXPECT_NEAR(drive, 2 * 58 * 0.5 * 255.9 * 44.05e-3, 2);
  EXPECT_NEAR(f.first_token_s, 512 / f.prefill.tok_s, 1e-9);
}

TEST(Forecast, WithoutRatesThereIsNoSpeedAndNoNonsense) {
  const Forecast f = MakeForecast(R1(), PlanOf(1000), Rates{}, Options(0.5));
  EXPECT_EQ(f.decode.tok_s, 0);
  EXPECT_EQ(f.prefill.tok_s, 0);
  EXPECT_EQ(f.load_s, 0);
}

bool Sound(double value) { return std::isfinite(value) && value >= 0; }

// Any model, any machine: finite, not negative, in order; and more of anything is never slower.
TEST(Forecast, MoreIsNeverSlower) {
  EXPECT_TRUE(rc::check([] {
    const auto real = [](double low, double high) {
      return low * std::pow(high / low, *rc::gen::inRange(0, 1000) / 1000.0);
    };
    ModelWork w = R1();
    w.dense[0].bytes = w.dense[0].weights = real(1e3, 1e13);
    w.shared.bytes = w.shared.weights = std::min(w.dense[0].bytes, real(1, 1e12));
    w.expert.bytes = w.expert.weights = real(1e2, 1e11);
    w.moe_layers = *rc::gen::inRange(1, 200);
    w.experts = *rc::gen::inRange(1, 1000);
    w.top_k = *rc::gen::inRange(1, static_cast<int>(std::min(32.0, w.experts)) + 1);
    Rates rates = Machine(real(1e8, 1e13), real(1e6, 1e12));
    rates.attention_flops = Measured(real(1e8, 1e15));
    const auto keys = static_cast<int32_t>(w.moe_layers * w.experts);
    Plan plan = PlanOf(*rc::gen::inRange(1, keys + 1));
    plan.routed_experts = keys;
    plan.holds_all = plan.slots[0] == keys;
    ForecastOptions o;
    o.position = real(1, 1e6);
    o.prompt_tokens = real(1, 1e6);
    o.chunk = *rc::gen::inRange(1, 4096);
    o.hits = HitRateOf("drifting", SlotShare(plan));
    const Forecast f = MakeForecast(w, plan, rates, o);
    for (const Speed* speed : {&f.decode, &f.prefill}) {
      RC_ASSERT(Sound(speed->tok_s) && Sound(speed->low) && Sound(speed->high));
      RC_ASSERT(speed->low <= speed->tok_s && speed->tok_s <= speed->high);
      RC_ASSERT(!speed->limit.empty());
      for (const Stage& stage : speed->stages) RC_ASSERT(Sound(stage.seconds));
    }
    RC_ASSERT(Sound(f.first_token_s) && Sound(f.load_s) && Sound(f.nvme_bytes_per_token));

    constexpr double kRounding = 1 - 1e-9;
    Rates faster = rates;
    faster.drive_read.value *= 2;
    RC_ASSERT(MakeForecast(w, plan, faster, o).decode.tok_s >= f.decode.tok_s * kRounding);
    Plan more = plan;
    more.slots[0] = plan.slots[0] + *rc::gen::inRange(0, keys - plan.slots[0] + 1);
    more.holds_all = more.slots[0] == keys;
    ForecastOptions other = o;
    other.hits = HitRateOf("drifting", SlotShare(more));
    const Forecast richer = MakeForecast(w, more, rates, other);
    RC_ASSERT(richer.decode.tok_s >= f.decode.tok_s * kRounding);
    RC_ASSERT(richer.prefill.tok_s >= f.prefill.tok_s * kRounding);
  }));
}

}  // namespace
}  // namespace moraine
