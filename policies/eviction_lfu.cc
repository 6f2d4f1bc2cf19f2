#include "policies/eviction_lfu.h"

#include "runtime/core/check.h"

namespace moraine {
namespace {

class Lfu final : public Eviction {
 public:
  explicit Lfu(int32_t keys) : uses_(static_cast<size_t>(keys)) {}

  void Tick(int32_t) override {}

  void Use(int32_t key, int32_t uses) override { uses_[static_cast<size_t>(key)] += uses; }

  void Scores(std::span<const int32_t> keys, std::span<double> scores) const override {
    MORAINE_CHECK_EQ(keys.size(), scores.size());
    for (size_t i = 0; i < keys.size(); ++i)
      scores[i] = static_cast<double>(uses_[static_cast<size_t>(keys[i])]);
  }

 private:
  std::vector<int64_t> uses_;  // [key]
};

}  // namespace

std::unique_ptr<Eviction> MakeLfu(int32_t keys) { return std::make_unique<Lfu>(keys); }

}  // namespace moraine
