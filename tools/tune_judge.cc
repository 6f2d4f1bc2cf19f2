#include "tools/tune_judge.h"

#include <algorithm>
#include <cmath>

#include "runtime/core/check.h"

namespace moraine::tools {

Verdict Judge(std::span<const double> ratios, double gain) {
  const double hopeless = std::min(0.8, 1 / gain);
  constexpr int kMajority = kMostRounds / 2 + 1;
  const auto rounds = static_cast<int>(ratios.size());
  MORAINE_CHECK(rounds <= kMostRounds);
  int above = 0;
  int lost = 0;
  for (const double ratio : ratios) {
    above += ratio > gain ? 1 : 0;
    lost += ratio > 1 ? 0 : 1;
    if (!(ratio >= hopeless)) return Verdict::kRejected;
  }
  if (lost > 1 || above + kMostRounds - rounds < kMajority) return Verdict::kRejected;
  if (rounds == kMostRounds || (rounds >= kLeastRounds && above == rounds)) return Verdict::kAccepted;
  return Verdict::kUndecided;
}

void Noise::Add(double ratio) {
  if (ratio > 0 && std::isfinite(ratio)) distances_.push_back(std::abs(std::log(ratio)));
}

double Noise::deviation() const {
  constexpr size_t kLeastKnown = 3;
  constexpr double kDeviationOfMedian = 1.4826;  // of normal values: deviation / median distance
  if (distances_.size() < kLeastKnown) return 0;
  std::vector<double> sorted = distances_;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  return kDeviationOfMedian * *middle;
}

double Noise::gain() const { return std::max(kLeastGain, std::exp(1.2 * deviation())); }

}  // namespace moraine::tools
