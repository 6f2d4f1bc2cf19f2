// What fitcheck finds out: one case of model, plan and machine, and the cases next to it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/core/model_shape.h"
#include "runtime/core/result.h"
#include "runtime/forecast.h"
#include "runtime/hardware.h"
#include "runtime/model_work.h"
#include "runtime/planner.h"

namespace moraine::tools {

/// All that a plan and a forecast are made from, as plain values that can be varied.
struct FitCase {
  ModelShape shape;
  PlanRequest request;
  ModelWork work;
  Rates rates;
  ForecastOptions forecast;
  std::string curve;           // of HitCurveNames(); `forecast.hits` follows from it and the plan
  std::optional<double> hits;  // of a trace, in place of the curve
};

struct FitAnswer {
  Plan plan;
  Forecast forecast;
};

/// Pure. kDoesNotFit as MakePlan.
Result<FitAnswer> Ask(const FitCase& fit);

/// A change of the machine or the weights, and the decode speed it gives.
struct NextStep {
  std::string change;  // "+64 GiB RAM"
  bool fits = false;
  Speed decode;
};

/// What might be bought or changed: more memory, a second drive, faster memory, fewer bits.
std::vector<NextStep> NextSteps(const FitCase& fit);

/// Positions of a sequence that fit beside the least slots, at most the model's context; 0: not one. Whole
/// pages of `page_tokens`.
int64_t LargestContext(const FitCase& fit, int32_t page_tokens);

}  // namespace moraine::tools
