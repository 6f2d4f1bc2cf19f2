// SlotTable in three verbs: Need (place if absent, use), Run (settle), Has.
#include "policies/slot_table.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <optional>
#include <set>

#include "policies/eviction_lru.h"

namespace moraine {
namespace {

class Table {
 public:
  explicit Table(SlotTableOptions options) : table_(options, MakeLru(options.layers * options.experts)) {}

  // True: it was there.
  bool Need(int32_t key) {
    const bool hit = table_.Find(key).value >= 0;
    if (hit) table_.Pin(key);
    if (!hit && !table_.Place(key)) ADD_FAILURE() << "no slot for " << key;
    table_.Use(key, 1, hit);
    needed_.push_back(key);
    return hit;
  }
  void Run() {
    for (const int32_t key : needed_) table_.Unpin(key);
    needed_.clear();
    table_.Settle();
  }
  bool Has(int32_t key) const { return table_.Find(key).value >= 0; }
  SlotTable& operator*() { return table_; }
  SlotTable* operator->() { return &table_; }

 private:
  SlotTable table_;
  std::vector<int32_t> needed_;
};

TEST(SlotTable, FillsFreeSlotsThenStaging) {
  Table table({.layers = 1, .experts = 8, .slots = 4, .staging = 2});
  for (const int32_t key : {0, 1, 2, 3}) {
    EXPECT_FALSE(table.Need(key));
    table.Run();
  }
  EXPECT_TRUE(table->Kept(2) && table->Kept(3)) << "lru: a newcomer beats the key used longest ago";
  EXPECT_TRUE(table.Has(0) && table.Has(1)) << "which stays until its slot is needed";
  EXPECT_EQ(table->counters().promoted, 2);
  EXPECT_FALSE(table.Need(4));
  EXPECT_FALSE(table.Has(0)) << "the staging key that waited longest goes";
  EXPECT_TRUE(table.Need(1));
  table.Run();
  EXPECT_EQ(table->counters().misses, 5);
  EXPECT_EQ(table->counters().hits, 1);
}

TEST(SlotTable, APinnedKeyKeepsItsSlotUnderPressure) {
  Table table({.layers = 1, .experts = 64, .slots = 4, .staging = 4});
  ASSERT_TRUE(table->Place(7));
  for (int32_t key = 10; key < 40; ++key) {
    table.Need(key);
    table.Run();
    ASSERT_TRUE(table.Has(7));
  }
  table->Unpin(7);
  for (int32_t key = 40; key < 44; ++key) {
    table.Need(key);
    table.Run();
  }
  EXPECT_FALSE(table.Has(7));
}

TEST(SlotTable, GivesNothingWhenAllIsPinned) {
  Table table({.layers = 1, .experts = 8, .slots = 2, .staging = 2});
  ASSERT_TRUE(table->Place(0));
  EXPECT_EQ(table->Placeable(), 1);
  ASSERT_TRUE(table->Place(1));
  EXPECT_EQ(table->Placeable(), 0);
  EXPECT_FALSE(table->Place(2));
  table->Unpin(0);
  const auto placed = table->Place(2);
  ASSERT_TRUE(placed);
  EXPECT_EQ(placed->evicted, 0);
}

TEST(SlotTable, ALayerKeepsItsFloor) {
  const SlotTableOptions options{.layers = 2, .experts = 8, .slots = 6, .staging = 2, .floor = 2};
  Table table(options);
  for (const int32_t key : {0, 1, 8, 9}) table.Need(key);
  table.Run();
  for (int round = 0; round < 5; ++round) {
    for (int32_t key = 10; key < 16; ++key) {
      table.Need(key);
      table.Run();
    }
  }
  EXPECT_TRUE(table->Kept(0) && table->Kept(1)) << "layer 1's keys are all newer, yet layer 0 keeps two";
}

TEST(SlotTable, SecondTouchKeepsOnlyWhatComesBack) {
  Table table({.layers = 1, .experts = 16, .slots = 4, .staging = 2, .second_touch = true});
  for (const int32_t key : {0, 1}) table.Need(key), table.Run(), table.Need(key), table.Run();
  table.Need(2);
  table.Run();
  EXPECT_FALSE(table->Kept(2));
  table.Need(2);
  table.Run();
  EXPECT_TRUE(table->Kept(2));
}

TEST(SlotTable, AForgottenKeyIsAMissAgain) {
  Table table({.layers = 1, .experts = 4, .slots = 4, .staging = 1});
  table.Need(3);
  table.Run();
  table->Forget(3);
  EXPECT_FALSE(table.Has(3));
  EXPECT_FALSE(table.Need(3));
}

TEST(SlotTable, AGuessCountsWhenItIsUsed) {
  Table table({.layers = 1, .experts = 8, .slots = 4, .staging = 2});
  ASSERT_TRUE(table->Place(5, true));
  ASSERT_TRUE(table->Place(6, true));
  table->Unpin(5);
  table->Unpin(6);
  EXPECT_TRUE(table.Need(5));
  EXPECT_EQ(table->counters().look_ahead, 2);
  EXPECT_EQ(table->counters().look_ahead_used, 1);
}

TEST(SlotTable, TheBestNewcomerTakesTheWorstPlace) {
  EvictionOptions lfu{.policy = "lfu"};
  SlotTable table({.layers = 1, .experts = 16, .slots = 5, .staging = 3}, *MakeEviction(lfu, 16));
  const auto use = [&](int32_t key, int32_t uses) {
    ASSERT_TRUE(table.Place(key));
    table.Unpin(key);
    table.Use(key, uses, false);
  };
  use(0, 3), use(1, 6);
  table.Settle();
  use(2, 5), use(3, 10), use(4, 6);
  table.Settle();
  EXPECT_TRUE(table.Kept(3) && table.Kept(1)) << "10 takes the place of 3; neither 6 nor 5 beats 6";
  EXPECT_EQ(table.counters().promoted, 1);
  use(5, 0), use(6, 11), use(7, 12);
  table.Settle();
  EXPECT_TRUE(table.Kept(6) && table.Kept(7));
}

// What Settle keeps, by its definition: newcomers from the best down, each against the worst it may replace.
class NaiveSettle {
 public:
  explicit NaiveSettle(const SlotTableOptions& options) : options_(options) {}

  std::set<int32_t> Keep(std::set<int32_t> kept, std::vector<int32_t> newcomers,
                         const std::set<int32_t>& pinned, const Eviction& eviction) const {
    const auto score = [&](int32_t key) {
      double value = 0;
      eviction.Scores({&key, 1}, {&value, 1});
      return value;
    };
    const auto better = [&](int32_t a, int32_t b) {
      return score(a) != score(b) ? score(a) > score(b) : a < b;
    };
    std::sort(newcomers.begin(), newcomers.end(), better);
    const auto most = static_cast<size_t>(options_.slots - options_.staging);
    for (const int32_t key : newcomers) {
      if (kept.size() < most) {
        kept.insert(key);
        continue;
      }
      std::optional<int32_t> victim;
      for (const int32_t other : kept) {
        const int32_t layer = other / options_.experts;
        const auto in_layer =
            std::count_if(kept.begin(), kept.end(), [&](int32_t k) { return k / options_.experts == layer; });
        if (pinned.contains(other)) continue;
        if (layer != key / options_.experts && in_layer <= options_.floor) continue;
        if (!victim || better(*victim, other)) victim = other;
      }
      if (!victim || score(key) <= eviction.margin() * score(*victim)) continue;
      kept.erase(*victim);
      kept.insert(key);
    }
    return kept;
  }

 private:
  SlotTableOptions options_;
};

TEST(SlotTable, SettleKeepsWhatItsDefinitionKeeps) {
  EXPECT_TRUE(rc::check([] {
    const int32_t experts = *rc::gen::inRange(4, 12);
    const int32_t keys = 3 * experts;
    SlotTableOptions options{.layers = 3, .experts = experts, .slots = *rc::gen::inRange(6, keys)};
    options.staging = *rc::gen::inRange(3, options.slots - 2);
    options.floor = *rc::gen::inRange(0, (options.slots - options.staging) / 3 + 1);
    auto owned = *MakeEviction({.policy = *rc::gen::element<std::string>("lfu", "ewma", "lru")}, keys);
    const Eviction& eviction = *owned;
    SlotTable table(options, std::move(owned));
    const NaiveSettle naive(options);
    for (int round = 0; round < 20; ++round) {
      table.Tick(1);
      std::set<int32_t> used;
      for (int i = 0; i < 3; ++i) {
        const int32_t key = *rc::gen::inRange(0, keys);
        const bool hit = table.Find(key).value >= 0;
        if (!hit) {
          if (!table.Place(key)) continue;
          table.Unpin(key);
        }
        table.Use(key, *rc::gen::inRange(1, 4), hit);
        used.insert(key);
      }
      std::set<int32_t> kept;
      std::set<int32_t> pinned;
      for (int32_t key = 0; key < keys; ++key) {
        if (table.Kept(key)) kept.insert(key);
        if (table.Kept(key) && *rc::gen::inRange(0, 4) == 0) pinned.insert(key);
      }
      std::vector<int32_t> newcomers;
      for (const int32_t key : used)
        if (table.Find(key).value >= 0 && !table.Kept(key)) newcomers.push_back(key);
      for (const int32_t key : pinned) table.Pin(key);
      const std::set<int32_t> expected = naive.Keep(kept, newcomers, pinned, eviction);
      table.Settle();
      for (const int32_t key : pinned) table.Unpin(key);
      for (int32_t key = 0; key < keys; ++key) RC_ASSERT(table.Kept(key) == expected.contains(key));
    }
  }));
}

// Whatever happens: no slot twice, no pinned key lost, kept keys at most slots - staging.
TEST(SlotTable, Invariants) {
  EXPECT_TRUE(rc::check([] {
    const int32_t layers = *rc::gen::inRange(1, 4);
    const int32_t experts = *rc::gen::inRange(1, 9);
    const int32_t keys = layers * experts;
    const int32_t slots = *rc::gen::inRange(2, keys + 2);
    SlotTableOptions options{.layers = layers,
                             .experts = experts,
                             .slots = slots,
                             .staging = *rc::gen::inRange(1, slots),
                             .floor = *rc::gen::inRange(0, 3),
                             .second_touch = *rc::gen::arbitrary<bool>()};
    SlotTable table(options, MakeLru(keys));
    std::multiset<int32_t> pinned;
    for (const int32_t draw : *rc::gen::container<std::vector<int32_t>>(200, rc::gen::inRange(0, 1 << 20))) {
      const int32_t key = draw / 8 % keys;
      const bool there = table.Find(key).value >= 0;
      switch (draw % 8) {
        case 0:
          table.Settle();
          break;
        case 1:
          if (!pinned.empty()) {
            table.Unpin(*pinned.begin());
            pinned.erase(pinned.begin());
          }
          break;
        case 2:
          if (there && !pinned.contains(key)) table.Forget(key);
          break;
        default:
          if (there) {
            table.Use(key, 1, true);
          } else if (const int32_t room = table.Placeable(); table.Place(key)) {
            RC_ASSERT(room > 0);
            pinned.insert(key);
            table.Use(key, 1, false);
          } else {
            RC_ASSERT(room == 0);
          }
      }
      std::set<int32_t> taken;
      int32_t kept = 0;
      for (int32_t k = 0; k < keys; ++k) {
        const int32_t slot = table.Find(k).value;
        if (slot < 0) continue;
        RC_ASSERT(slot < slots);
        RC_ASSERT(taken.insert(slot).second);
        kept += table.Kept(k);
      }
      for (const int32_t k : pinned) RC_ASSERT(table.Find(k).value >= 0);
      if (slots < keys) RC_ASSERT(kept <= slots - options.staging);
    }
  }));
}

}  // namespace
}  // namespace moraine
