#include "policies/eviction_ewma.h"

#include <algorithm>
#include <cmath>

#include "runtime/core/check.h"

namespace moraine {
namespace {

// Sums of uses that lose half their weight every half-life.
class DecayedSums {
 public:
  DecayedSums(double half_life, int32_t keys) : half_life_(half_life), sums_(static_cast<size_t>(keys)) {}

  void Tick(int32_t tokens) {
    log2_weight_ += tokens / half_life_;
    if (log2_weight_ > kMostLog2) Rescale();
    weight_ = std::exp2(log2_weight_);
    unit_ = 1 / weight_;
  }
  void Add(size_t key, int32_t uses) { sums_[key] += weight_ * uses; }
  double Of(size_t key) const { return sums_[key] * unit_; }

 private:
  // Far from double's 2^1023, so that a million uses of one key stay finite too.
  static constexpr double kMostLog2 = 500;
  // What is left of a use however long ago: below any recent one, above none also when divided by a weight.
  static constexpr double kLeast = 1e-150;

  void Rescale() {
    const double factor = std::exp2(-log2_weight_);
    for (double& sum : sums_)
      if (sum > 0) sum = std::max(sum * factor, kLeast);
    log2_weight_ = 0;
  }

  double half_life_;
  double log2_weight_ = 0;
  double weight_ = 1;  // of a use now
  double unit_ = 1;    // 1 / weight_
  std::vector<double> sums_;
};

class Ewma final : public Eviction {
 public:
  Ewma(const EvictionOptions& options, int32_t keys)
      : fast_(options.half_life, keys),
        slow_(options.slow_half_life, keys),
        slow_weight_(options.slow_weight),
        margin_(1 + options.hysteresis) {}

  void Tick(int32_t tokens) override {
    fast_.Tick(tokens);
    slow_.Tick(tokens);
  }

  void Use(int32_t key, int32_t uses) override {
    fast_.Add(static_cast<size_t>(key), uses);
    slow_.Add(static_cast<size_t>(key), uses);
  }

  void Scores(std::span<const int32_t> keys, std::span<double> scores) const override {
    MORAINE_CHECK_EQ(keys.size(), scores.size());
    for (size_t i = 0; i < keys.size(); ++i) {
      const auto key = static_cast<size_t>(keys[i]);
      scores[i] = fast_.Of(key) + slow_weight_ * slow_.Of(key);
    }
  }

  double margin() const override { return margin_; }

 private:
  DecayedSums fast_;
  DecayedSums slow_;
  double slow_weight_;
  double margin_;
};

}  // namespace

std::unique_ptr<Eviction> MakeEwma(const EvictionOptions& options, int32_t keys) {
  return std::make_unique<Ewma>(options, keys);
}

}  // namespace moraine
