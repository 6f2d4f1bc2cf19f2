// Where the time of steps goes, in the two parts that a forecast foretells.
#pragma once

#include <chrono>

namespace moraine {

struct StepSeconds {
  double dense = 0;    // attention, dense layers, routers, shared experts, head
  double experts = 0;  // routed experts, with the wait for those that are read meanwhile

  StepSeconds operator-(const StepSeconds& before) const {
    return {.dense = dense - before.dense, .experts = experts - before.experts};
  }
  StepSeconds operator/(double count) const {
    return count > 0 ? StepSeconds{.dense = dense / count, .experts = experts / count} : StepSeconds{};
  }
};

/// Adds the time since it was made, or since the last Lap, to one part or the other.
class StepClock {
 public:
  void Lap(double* part) {
    const auto now = std::chrono::steady_clock::now();
    *part += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace moraine
