// Prefetch: whether to read experts that the next layer will probably want. Pure.
//
// next-gate: the next layer's router on this layer's state. Published recall of the guess is 72 to 81 % of
// R1-class models' choices (GLM-5.2, Qwen3.6-35B), worst in the first layers; acting on it loses as often as
// it wins where the drive is busy anyway, hence the watchdog.
#pragma once

#include <cstdint>

namespace moraine {

enum class PrefetchMode : uint8_t { kOff, kNextGate };

struct PrefetchOptions {
  PrefetchMode mode = PrefetchMode::kOff;
  int32_t width = INT32_MAX;   // guesses a row, the best first; at most the model's experts a token
  double least_useful = 0.6;   // of the guesses read; below it the watchdog turns prefetch off
  int32_t sample = 256;        // guesses it judges by
  int32_t rest_layers = 4096;  // layers after which it tries again
};

/// Turns prefetch off while too few of the experts it reads are used.
class PrefetchWatchdog {
 public:
  explicit PrefetchWatchdog(const PrefetchOptions& options) : options_(options) {}

  /// Once a layer: whether it may guess.
  bool Ask();
  /// What became of guesses: `read` of them, of which `used` were wanted.
  void Count(int32_t read, int32_t used);

  bool resting() const { return rest_ > 0; }

 private:
  PrefetchOptions options_;
  int32_t read_ = 0;
  int32_t used_ = 0;
  int32_t rest_ = 0;
};

}  // namespace moraine
