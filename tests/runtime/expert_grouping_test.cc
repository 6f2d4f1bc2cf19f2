// runtime/expert_grouping.h: each (row, expert) pair once, experts and rows ascending.
#include "runtime/expert_grouping.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <map>
#include <numeric>

namespace moraine {
namespace {

TEST(ExpertGrouping, RegroupsAnyRoutingWithoutLoss) {
  EXPECT_TRUE(rc::check([] {
    const auto experts = *rc::gen::inRange<int32_t>(1, 40);
    const auto top_k = *rc::gen::inRange<int32_t>(1, experts + 1);
    const auto rows = *rc::gen::inRange<int32_t>(0, 30);
    std::vector<int32_t> ids;
    std::vector<float> weights;
    for (int32_t t = 0; t < rows; ++t) {
      std::vector<int32_t> all(static_cast<size_t>(experts));
      std::iota(all.begin(), all.end(), 0);
      const auto shift = *rc::gen::inRange<int32_t>(0, experts);
      std::rotate(all.begin(), all.begin() + shift, all.end());
      ids.insert(ids.end(), all.begin(), all.begin() + top_k);
      for (int32_t k = 0; k < top_k; ++k) weights.push_back(static_cast<float>(t * 1000 + k));
    }
    ExpertGrouping grouping(experts, top_k, 30);
    const auto work =
        grouping.Group({.rows = rows, .top_k = top_k, .experts = ids.data(), .weights = weights.data()});
    std::map<std::pair<int32_t, int32_t>, float> want;
    for (size_t i = 0; i < ids.size(); ++i) want[{ids[i], static_cast<int32_t>(i) / top_k}] = weights[i];
    std::map<std::pair<int32_t, int32_t>, float> got;
    for (size_t w = 0; w < work.size(); ++w) {
      // Not `w == 0 || ...`: inside RC_ASSERT an overloaded || evaluates both sides.
      if (w > 0) RC_ASSERT(work[w - 1].expert < work[w].expert);
      RC_ASSERT(!work[w].rows.empty());
      for (size_t i = 0; i < work[w].rows.size(); ++i) {
        if (i > 0) RC_ASSERT(work[w].rows[i - 1] < work[w].rows[i]);
        got[{work[w].expert.value, work[w].rows[i]}] = work[w].gains[i];
      }
    }
    RC_ASSERT(got == want);
  }));
}

}  // namespace
}  // namespace moraine
