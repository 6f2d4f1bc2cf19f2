// Hit rate of the expert cache over the share of experts that have a slot, where no trace of the model is at
// hand. Never the resident share itself: routing repeats itself, and a cache that is driven by it does
// better.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/result.h"

namespace moraine {

struct HitRate {
  double low = 0;
  double expected = 0;
  double high = 0;
};

/// "drifting": a hot set that drifts, as published traces of models with 64 to 256 experts show; "even":
/// every expert as likely at every token, as with random weights. kUsage lists them.
Status CheckHitCurve(std::string_view name);
std::vector<std::string_view> HitCurveNames();

/// Of decode steps of one row, with the default policy. `share` = slots / experts, 0 to 1; 1 gives 1. Linear
/// between points; never falls as `share` grows. REQUIRES a name CheckHitCurve takes.
HitRate HitRateOf(std::string_view name, double share);

/// What the curve was made from, for a report.
std::string_view HitCurveSource(std::string_view name);

}  // namespace moraine
