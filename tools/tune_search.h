// The search for a better policy: axis by axis, each step judged by end-to-end runs that alternate with the
// policy it would replace. Knows neither engine nor keys.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runtime/core/result.h"
#include "tools/tune_judge.h"

namespace moraine::tools {

/// One key of the policy with the values that may be tried.
struct TuneAxis {
  std::string name;   // "io.depth"
  size_t values = 0;  // how many
  size_t start = 0;   // the user's
  size_t automatic = 0;
  bool ordered = false;  // neighbours are alike: walk from one to the next while that pays
};

/// The number of a value on each axis.
using TunePoint = std::vector<size_t>;

struct TuneRun {
  double seconds = 0;  // of all prompts and answers: what is judged
  double decode_tok_s = 0;
  double prefill_tok_s = 0;
  double hit_rate = 0;
};

class TuneRunner {
 public:
  virtual ~TuneRunner() = default;
  /// Runs the prompts of the search, or those held out. kDoesNotFit and kUsage: this point cannot be run,
  /// others may.
  virtual Result<TuneRun> Run(const TunePoint& point, bool held_out) = 0;
  /// Seconds spent so far.
  virtual double Elapsed() const = 0;
};

/// One value that was tried.
struct TuneTrial {
  size_t axis = 0;
  size_t from = 0;
  size_t to = 0;
  std::vector<double> ratios;  // by round
  Verdict verdict = Verdict::kUndecided;
  std::string refused;  // why it could not be run
};

struct TuneOptions {
  double limit_s = 0;  // the final check included; what is under way is finished
  /// Called after the first runs with the seconds of one, and after each trial. May be empty.
  std::function<void(double run_s)> started;
  std::function<void(const TuneTrial&)> tried;
};

struct TuneOutcome {
  TunePoint start;
  TunePoint best;  // `start` where nothing held
  std::vector<TuneTrial> trials;
  TunePoint found;                  // by the search, before the final check
  std::vector<double> held_ratios;  // of the final check; empty: there was nothing to check
  std::optional<TuneRun> before;    // of the final check, in the middle: `start` on the held-out prompts
  std::optional<TuneRun> after;     // `found` on the same
  double noise = 0;                 // Noise::deviation
  double gain = kLeastGain;         // that the last trial had to exceed
  bool out_of_time = false;         // values were left untried
};

/// From the axes' starts: on each axis the automatic value first, then neighbours (ordered) or all others, in
/// the order of `axes`; again from the first until a pass changes nothing or time is up. What was found must
/// beat the start once more on the held-out prompts, or the start stays. Errors of the start, and all of
/// other kinds than TuneRunner says, end the search.
Result<TuneOutcome> TuneSearch(const std::vector<TuneAxis>& axes, TuneRunner* runner,
                               const TuneOptions& options);

}  // namespace moraine::tools
