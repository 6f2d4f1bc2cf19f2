// policies/node_split.h: slices that cover, in whole units, by workers.
#include "policies/node_split.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <numeric>

namespace moraine {
namespace {

using Boundaries = std::vector<int64_t>;

TEST(SplitRows, R1OverSomeMachines) {
  EXPECT_EQ(SplitRows(2048, std::vector<int>{16}), (Boundaries{0, 2048}));
  EXPECT_EQ(SplitRows(2048, std::vector<int>{8, 8}), (Boundaries{0, 1024, 2048}));
  EXPECT_EQ(SplitRows(2048, std::vector<int>{4, 4, 4}), (Boundaries{0, 768, 1408, 2048}));
  EXPECT_EQ(SplitRows(7168, std::vector<int>{3, 1}), (Boundaries{0, 5376, 7168}));
  EXPECT_EQ(SplitRows(64, std::vector<int>{1, 1}), (Boundaries{0, 64, 64}));
}

TEST(SplitRows, CoversEveryRowOnceAndFairly) {
  EXPECT_TRUE(rc::check([] {
    const auto rows = *rc::gen::inRange<int64_t>(1, 20000);
    const auto workers = *rc::gen::nonEmpty(rc::gen::container<std::vector<int>>(rc::gen::inRange(1, 65)));
    const Boundaries cut = SplitRows(rows, workers);
    RC_ASSERT(cut.size() == workers.size() + 1);
    RC_ASSERT(cut.front() == 0);
    RC_ASSERT(cut.back() == rows);
    const int all = std::accumulate(workers.begin(), workers.end(), 0);
    for (size_t n = 0; n < workers.size(); ++n) {
      RC_ASSERT(cut[n] <= cut[n + 1]);
      RC_ASSERT(cut[n] % kNodeSliceRows == 0 || cut[n] == rows);
      const double fair = static_cast<double>(rows) * workers[n] / all;
      RC_ASSERT(static_cast<double>(cut[n + 1] - cut[n]) <= fair + 2 * kNodeSliceRows);
    }
  }));
}

}  // namespace
}  // namespace moraine
