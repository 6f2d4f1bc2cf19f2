#include "policies/eviction_pinned.h"

#include <algorithm>
#include <numeric>

#include "runtime/core/check.h"

namespace moraine {
namespace {

class Pinned final : public Eviction {
 public:
  Pinned(std::span<const float> profile, int32_t keys) : score_(static_cast<size_t>(keys)) {
    const auto uses = [&](int32_t key) {
      const auto k = static_cast<size_t>(key);
      return k < profile.size() ? profile[k] : 0.f;
    };
    std::vector<int32_t> order(score_.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return uses(a) > uses(b); });
    for (size_t rank = 0; rank < order.size(); ++rank)
      score_[static_cast<size_t>(order[rank])] = static_cast<double>(order.size() - rank);
  }

  void Tick(int32_t) override {}
  void Use(int32_t, int32_t) override {}

  void Scores(std::span<const int32_t> keys, std::span<double> scores) const override {
    MORAINE_CHECK_EQ(keys.size(), scores.size());
    for (size_t i = 0; i < keys.size(); ++i) scores[i] = score_[static_cast<size_t>(keys[i])];
  }

 private:
  std::vector<double> score_;  // [key] keys: the best, 1: the worst
};

}  // namespace

std::unique_ptr<Eviction> MakePinned(std::span<const float> profile, int32_t keys) {
  return std::make_unique<Pinned>(profile, keys);
}

}  // namespace moraine
