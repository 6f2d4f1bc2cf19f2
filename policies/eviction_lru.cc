#include "policies/eviction_lru.h"

#include "runtime/core/check.h"

namespace moraine {
namespace {

class Lru final : public Eviction {
 public:
  explicit Lru(int32_t keys) : last_use_(static_cast<size_t>(keys)) {}

  void Tick(int32_t) override {}

  void Use(int32_t key, int32_t) override { last_use_[static_cast<size_t>(key)] = ++uses_; }

  void Scores(std::span<const int32_t> keys, std::span<double> scores) const override {
    MORAINE_CHECK_EQ(keys.size(), scores.size());
    for (size_t i = 0; i < keys.size(); ++i)
      scores[i] = static_cast<double>(last_use_[static_cast<size_t>(keys[i])]);
  }

 private:
  std::vector<int64_t> last_use_;  // [key] number of its last use, 0 before the first
  int64_t uses_ = 0;
};

}  // namespace

std::unique_ptr<Eviction> MakeLru(int32_t keys) { return std::make_unique<Lru>(keys); }

}  // namespace moraine
