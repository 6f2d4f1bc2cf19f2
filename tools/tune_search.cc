#include "tools/tune_search.h"

#include <algorithm>
#include <set>
#include <utility>

namespace moraine::tools {
namespace {

// Runs of the start before anything else: their ratios say how far equal runs lie apart.
constexpr int kFirstRuns = 4;
// What a trial that changes nothing takes, and the final check.
constexpr double kTrialRuns = 6;
constexpr double kCheckRuns = 2 * kMostRounds;

class Search {
 public:
  Search(const std::vector<TuneAxis>& axes, TuneRunner* runner, const TuneOptions& options)
      : axes_(axes), runner_(*runner), options_(options) {}

  Result<TuneOutcome> Go() {
    for (const TuneAxis& axis : axes_) outcome_.start.push_back(axis.start);
    point_ = outcome_.start;
    MORAINE_RETURN_IF_ERROR(FirstRuns());
    bool changed = true;
    while (changed && !outcome_.out_of_time) {
      const TunePoint before = point_;
      for (size_t axis = 0; axis < axes_.size() && !outcome_.out_of_time; ++axis)
        MORAINE_RETURN_IF_ERROR(axes_[axis].ordered ? Climb(axis) : TryAll(axis));
      changed = point_ != before;
    }
    outcome_.found = point_;
    outcome_.best = outcome_.start;
    if (point_ != outcome_.start) MORAINE_RETURN_IF_ERROR(FinalCheck());
    outcome_.noise = noise_.deviation();
    outcome_.gain = noise_.gain();
    return std::move(outcome_);
  }

 private:
  struct Pair {
    double ratio = 0;
    TuneRun without;
    TuneRun with;
  };

  Status FirstRuns() {
    for (int i = 0; i < kFirstRuns; ++i) MORAINE_RETURN_IF_ERROR(Run(point_, false));
    if (options_.started) options_.started(runner_.Elapsed() / runs_);
    return {};
  }

  // Two runs of one policy in a row are a sample of the noise.
  Result<TuneRun> Run(const TunePoint& point, bool held_out) {
    MORAINE_ASSIGN_OR_RETURN(const TuneRun run, runner_.Run(point, held_out));
    ++runs_;
    if (last_point_ == point && last_held_out_ == held_out && last_seconds_ > 0)
      noise_.Add(run.seconds / last_seconds_);
    last_point_ = point;
    last_held_out_ = held_out;
    last_seconds_ = run.seconds;
    return run;
  }

  // Without and with, then with and without: what drifts over time falls on both.
  Result<Pair> Round(const TunePoint& without, const TunePoint& with, size_t round, bool held_out) {
    Pair pair;
    if (round % 2 == 0) {
      MORAINE_ASSIGN_OR_RETURN(pair.without, Run(without, held_out));
      MORAINE_ASSIGN_OR_RETURN(pair.with, Run(with, held_out));
    } else {
      MORAINE_ASSIGN_OR_RETURN(pair.with, Run(with, held_out));
      MORAINE_ASSIGN_OR_RETURN(pair.without, Run(without, held_out));
    }
    pair.ratio = pair.with.seconds > 0 ? pair.without.seconds / pair.with.seconds : 0;
    return pair;
  }

  bool TimeIsUp() {
    const double run_s = runner_.Elapsed() / runs_;
    outcome_.out_of_time = runner_.Elapsed() + (kTrialRuns + kCheckRuns) * run_s > options_.limit_s;
    return outcome_.out_of_time;
  }

  // True when the value was accepted.
  Result<bool> Try(size_t axis, size_t value) {
    TunePoint other = point_;
    other[axis] = value;
    if (other == point_ || !tried_.insert({point_, other}).second || TimeIsUp()) return false;
    TuneTrial trial{.axis = axis, .from = point_[axis], .to = value};
    while (trial.verdict == Verdict::kUndecided) {
      const auto pair = Round(point_, other, trial.ratios.size(), false);
      if (!pair.has_value()) {
        const bool of_point =
            pair.error().kind == ErrorKind::kDoesNotFit || pair.error().kind == ErrorKind::kUsage;
        if (!of_point) return tl::unexpected(pair.error());
        trial.refused = pair.error().message;
        trial.verdict = Verdict::kRejected;
        break;
      }
      trial.ratios.push_back(pair->ratio);
      trial.verdict = Judge(trial.ratios, noise_.gain());
    }
    const bool accepted = trial.verdict == Verdict::kAccepted;
    if (accepted) point_ = std::move(other);
    if (options_.tried) options_.tried(trial);
    outcome_.trials.push_back(std::move(trial));
    return accepted;
  }

  Status TryAll(size_t axis) {
    MORAINE_RETURN_IF_ERROR(Try(axis, axes_[axis].automatic));
    for (size_t value = 0; value < axes_[axis].values; ++value) MORAINE_RETURN_IF_ERROR(Try(axis, value));
    return {};
  }

  Status Climb(size_t axis) {
    MORAINE_RETURN_IF_ERROR(Try(axis, axes_[axis].automatic));
    MORAINE_ASSIGN_OR_RETURN(const bool rose, Walk(axis, true));
    if (!rose) MORAINE_RETURN_IF_ERROR(Walk(axis, false));
    return {};
  }

  // Step by step while that pays; true when the first one did.
  Result<bool> Walk(size_t axis, bool up) {
    bool moved = false;
    while (up ? point_[axis] + 1 < axes_[axis].values : point_[axis] > 0) {
      MORAINE_ASSIGN_OR_RETURN(const bool accepted, Try(axis, up ? point_[axis] + 1 : point_[axis] - 1));
      if (!accepted) break;
      moved = true;
    }
    return moved;
  }

  Status FinalCheck() {
    std::vector<Pair> pairs;
    Verdict verdict = Verdict::kUndecided;
    while (verdict == Verdict::kUndecided) {
      MORAINE_ASSIGN_OR_RETURN(Pair pair, Round(outcome_.start, point_, pairs.size(), true));
      pairs.push_back(pair);
      outcome_.held_ratios.push_back(pair.ratio);
      verdict = Judge(outcome_.held_ratios, noise_.gain());
    }
    std::sort(pairs.begin(), pairs.end(), [](const Pair& a, const Pair& b) { return a.ratio < b.ratio; });
    outcome_.before = pairs[pairs.size() / 2].without;
    outcome_.after = pairs[pairs.size() / 2].with;
    if (verdict == Verdict::kAccepted) outcome_.best = point_;
    return {};
  }

  const std::vector<TuneAxis>& axes_;
  TuneRunner& runner_;
  const TuneOptions& options_;
  TuneOutcome outcome_;
  TunePoint point_;  // the best so far
  Noise noise_;
  int runs_ = 0;
  TunePoint last_point_;
  bool last_held_out_ = false;
  double last_seconds_ = 0;
  std::set<std::pair<TunePoint, TunePoint>> tried_;
};

}  // namespace

Result<TuneOutcome> TuneSearch(const std::vector<TuneAxis>& axes, TuneRunner* runner,
                               const TuneOptions& options) {
  return Search(axes, runner, options).Go();
}

}  // namespace moraine::tools
