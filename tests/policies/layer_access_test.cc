// policies/layer_access.h: hits first, ascending batches that fit the staging slots, uses of the last rows.
#include "policies/layer_access.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <numeric>
#include <set>

#include "tests/support/allocations.h"

namespace moraine {
namespace {

using ::testing::ElementsAre;

// Remembers what it is told; everything scores alike.
class Recorder final : public Eviction {
 public:
  void Tick(int32_t tokens) override { ticks.push_back(tokens); }
  void Use(int32_t key, int32_t uses) override { used.emplace_back(key, uses); }
  void Scores(std::span<const int32_t> keys, std::span<double> scores) const override {
    std::fill_n(scores.begin(), keys.size(), 1);
  }
  std::vector<int32_t> ticks;
  std::vector<std::pair<int32_t, int32_t>> used;
};

struct Fixture {
  explicit Fixture(const SlotTableOptions& options) {
    auto owned = std::make_unique<Recorder>();
    recorder = owned.get();
    table = std::make_unique<SlotTable>(options, std::move(owned));
    access = std::make_unique<LayerAccess>(table.get());
  }
  // Runs a layer; what each batch held, keys only.
  std::vector<std::vector<int32_t>> Run(int32_t layer, const std::vector<int32_t>& chosen, int32_t top_k) {
    std::vector<std::vector<int32_t>> batches;
    access->BeginLayer(layer, chosen, top_k);
    while (!access->Done()) {
      auto& batch = batches.emplace_back();
      for (const Access& need : access->Next()) {
        batch.push_back(need.key);
        EXPECT_EQ(table->Find(need.key), need.slot);
      }
      EXPECT_FALSE(batch.empty());
      access->Release();
    }
    return batches;
  }
  Recorder* recorder;
  std::unique_ptr<SlotTable> table;
  std::unique_ptr<LayerAccess> access;
};

TEST(LayerAccess, HandsOutEachDistinctExpertOnceAscending) {
  Fixture f({.layers = 2, .experts = 8, .slots = 8, .staging = 4});
  f.access->BeginStep(2);
  EXPECT_THAT(f.Run(1, {5, 3, 3, 1}, 2), ElementsAre(ElementsAre(9, 11, 13)));
  EXPECT_THAT(f.recorder->used, ElementsAre(std::pair(9, 1), std::pair(11, 2), std::pair(13, 1)));
  EXPECT_EQ(f.table->counters().misses, 3);
  f.Run(1, {5, 3, 3, 1}, 2);
  EXPECT_EQ(f.table->counters().hits, 3);
}

TEST(LayerAccess, OnlyTheLastRowsOfALongStepCount) {
  Fixture f({.layers = 1, .experts = 4, .slots = 4});
  f.access->BeginStep(100);
  std::vector<int32_t> chosen(100, 2);
  std::fill_n(chosen.begin(), 30, 0);
  chosen[36] = 1;
  chosen[35] = 3;
  f.Run(0, chosen, 1);
  EXPECT_THAT(f.recorder->ticks, ElementsAre(64));
  EXPECT_THAT(f.recorder->used,
              ElementsAre(std::pair(0, 0), std::pair(1, 1), std::pair(2, 63), std::pair(3, 0)));
}

TEST(LayerAccess, CutsWhatDoesNotFitIntoBatches) {
  Fixture f({.layers = 1, .experts = 16, .slots = 4, .staging = 4});
  f.access->BeginStep(1);
  EXPECT_THAT(f.Run(0, {6, 5, 4, 3, 2, 1, 0}, 7),
              ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3), ElementsAre(4, 5, 6)));
}

TEST(LayerAccess, WhileABatchRunsTheNextHasItsSlots) {
  Fixture f({.layers = 1, .experts = 16, .slots = 4, .staging = 4});
  f.access->BeginStep(1);
  f.access->BeginLayer(0, std::vector<int32_t>{0, 1, 2, 3, 4}, 5);
  const auto keys = [](std::span<const Access> batch) {
    std::vector<int32_t> of;
    for (const Access& access : batch) of.push_back(access.key);
    return of;
  };
  EXPECT_THAT(keys(f.access->Next()), ElementsAre(0, 1));
  EXPECT_THAT(keys(f.access->Ahead()), ElementsAre(2, 3));
  f.access->Release();
  EXPECT_THAT(keys(f.access->Next()), ElementsAre(2, 3, 4));
  EXPECT_TRUE(f.access->Ahead().empty());
  EXPECT_TRUE(f.access->Done());
  f.access->Release();
}

TEST(LayerAccess, AMissDoesNotEvictWhatTheLayerNeedsItself) {
  Fixture f({.layers = 1, .experts = 16, .slots = 2, .staging = 2});
  f.access->BeginStep(1);
  f.Run(0, {8, 9}, 2);
  // 8 waited longest and would go for 1, but this layer needs it.
  f.Run(0, {1, 8}, 2);
  EXPECT_EQ(f.table->counters().hits, 1);
  EXPECT_LT(f.table->Find(9).value, 0);
}

TEST(LayerAccess, GivesUpAReserveRatherThanStandStill) {
  Fixture f({.layers = 1, .experts = 16, .slots = 2, .staging = 2});
  f.access->BeginStep(1);
  f.Run(0, {8, 9}, 2);
  EXPECT_THAT(f.Run(0, {1, 8, 9}, 3), ElementsAre(ElementsAre(1, 8), ElementsAre(9)))
      << "9's slot is given up for 1; 8 keeps its own";
  EXPECT_EQ(f.table->counters().hits, 1);
}

TEST(LayerAccess, WaitsForTheSlotsThatOthersPin) {
  Fixture f({.layers = 1, .experts = 16, .slots = 2, .staging = 2});
  ASSERT_TRUE(f.table->Place(14, true));
  ASSERT_TRUE(f.table->Place(15, true));
  f.access->BeginStep(1);
  f.access->BeginLayer(0, std::vector<int32_t>{3}, 1);
  EXPECT_TRUE(f.access->Next().empty());
  EXPECT_FALSE(f.access->Done());
  f.table->Unpin(14);
  const auto batch = f.access->Next();
  ASSERT_EQ(batch.size(), 1u);
  EXPECT_EQ(batch[0].evicted, 14);
  EXPECT_FALSE(batch[0].hit);
  f.access->Release();
}

TEST(LayerAccess, AbandonLeavesNoPin) {
  Fixture f({.layers = 1, .experts = 16, .slots = 4, .staging = 4});
  f.access->BeginStep(1);
  f.Run(0, {8, 9, 10, 11}, 4);
  f.access->BeginLayer(0, std::vector<int32_t>{1, 8, 9, 10}, 4);
  f.access->Next();
  f.access->Abandon();
  EXPECT_EQ(f.table->Placeable(), 4);
  f.access->BeginStep(1);
}

TEST(LayerAccess, AllocatesNothing) {
  Fixture f({.layers = 2, .experts = 64, .slots = 40, .staging = 8});
  f.recorder->ticks.reserve(1000);
  f.recorder->used.reserve(100'000);
  std::vector<int32_t> chosen(200);
  const int64_t before = test::Allocations();
  for (int32_t step = 0; step < 100; ++step) {
    f.access->BeginStep(50);
    for (size_t i = 0; i < chosen.size(); ++i) chosen[i] = static_cast<int32_t>((i * i + 7 * step) % 64);
    for (int32_t layer = 0; layer < 2; ++layer) {
      f.access->BeginLayer(layer, chosen, 4);
      while (!f.access->Done()) {
        f.access->Next();
        f.access->Release();
      }
    }
  }
  EXPECT_EQ(test::Allocations(), before);
}

// Every distinct expert of the layer is handed out once, ascending, and no pin is left behind.
TEST(LayerAccess, CoversAnyRouting) {
  EXPECT_TRUE(rc::check([] {
    const int32_t experts = *rc::gen::inRange(1, 20);
    const int32_t slots = *rc::gen::inRange(2, experts + 2);
    Fixture f({.layers = 1, .experts = experts, .slots = slots, .staging = *rc::gen::inRange(1, slots)});
    for (int step = 0; step < 5; ++step) {
      const auto chosen =
          *rc::gen::nonEmpty(rc::gen::container<std::vector<int32_t>>(rc::gen::inRange(0, experts)));
      f.access->BeginStep(static_cast<int32_t>(chosen.size()));
      std::vector<int32_t> seen;
      for (const auto& batch : f.Run(0, chosen, 1)) seen.insert(seen.end(), batch.begin(), batch.end());
      const std::set<int32_t> wanted(chosen.begin(), chosen.end());
      RC_ASSERT(std::equal(seen.begin(), seen.end(), wanted.begin(), wanted.end()));
    }
    int32_t kept = 0;
    for (int32_t key = 0; key < experts; ++key) kept += f.table->Kept(key) ? 1 : 0;
    RC_ASSERT(f.table->Placeable() == slots - kept);
  }));
}

}  // namespace
}  // namespace moraine
