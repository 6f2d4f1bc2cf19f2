// What fitcheck says, for people and as JSON.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "runtime/hardware.h"
#include "storage/checkpoint.h"
#include "tools/fit_answer.h"
#include "tools/fit_model.h"

namespace moraine::tools {

struct FitReport {
  const FitModel& model;
  const Hardware& hardware;
  const FitCase& fit;
  int64_t context = 0;  // positions of a sequence that were asked for
  int64_t largest_context = 0;
  std::string kv_type;
  std::optional<FitAnswer> answer;  // empty: it does not fit
  std::string refusal;              // then: what is short, class by class
  std::vector<NextStep> next;
  std::vector<std::string> notices;  // what the reader should know
  std::string verify;                // the command that checks the forecast; empty: the model is not here
};

/// A page of at most 100 columns. `explain` adds every stage's formula and every rate's origin.
std::string FitText(const FitReport& report, bool explain);

/// One object with the names of the Plan JSON (runtime/planner.h) and, beside them: fits, machine, rates,
/// demand, decode, prefill, first_token_s, load, context, next, notices. Bytes are integers, rates bytes a
/// second; the order is always the same. "schema" is raised when a field changes its meaning or goes.
nlohmann::ordered_json FitJson(const FitReport& report);

/// A page for a browser that needs no other file and no script: the tiers as bars, decode speed over memory
/// and over context, and the text with its formulas.
std::string FitHtml(const FitReport& report);

/// Public calculators' figures beside ours, and who else could hold the model on this machine.
std::string CompareText(const FitReport& report);
nlohmann::ordered_json CompareJson(const FitReport& report);

}  // namespace moraine::tools
