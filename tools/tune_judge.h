// Whether a change of the policy pays, from runs that alternated with runs without it. Pure.
#pragma once

#include <span>
#include <vector>

namespace moraine::tools {

enum class Verdict { kUndecided, kAccepted, kRejected };

/// A gain below this is not worth a key in a file.
inline constexpr double kLeastGain = 1.03;
inline constexpr int kLeastRounds = 3;
inline constexpr int kMostRounds = 5;

/// `ratios`: of each round, the time without the change over the time with it. Accepted when the median of
/// all rounds is above `gain` and all but one are above 1: after kLeastRounds only where every round is above
/// `gain`, else after kMostRounds. Rejected as soon as that can no longer come about, or after a round that
/// took a quarter longer and lies beyond the noise.
Verdict Judge(std::span<const double> ratios, double gain);

/// How far two runs of one policy lie apart: from the ratios of their times. Keeps what it was told.
class Noise {
 public:
  void Add(double ratio);
  /// Standard deviation of the logarithm of such a ratio, by its median: one stray run changes little. 0
  /// until three are known.
  double deviation() const;
  /// What a median must exceed to be no accident: kLeastGain, or 1.2 deviations if that is more. Of five
  /// rounds three exceed that by chance in 1 of 80 trials; what slips through has the final check before it.
  double gain() const;

 private:
  std::vector<double> distances_;  // |ln ratio|
};

}  // namespace moraine::tools
