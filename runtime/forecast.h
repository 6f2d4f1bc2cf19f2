// Forecast: how fast a plan will run on a machine, from bytes, operations and rates. Pure.
//
// Decode, one sequence: dense weights and the cache are read once a token; in each MoE layer the K experts
// run beside the shared one while those that are missing are read, and the last to come runs alone. Prompts:
// the same by chunks, each expert that a chunk touches read once. docs/fitcheck.md has the formulas.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "policies/hit_curve.h"
#include "runtime/hardware.h"
#include "runtime/model_work.h"
#include "runtime/planner.h"
#include "runtime/step_seconds.h"

namespace moraine {

/// Weights that a row reads at less than this share of what memory gives are bound by instructions.
inline constexpr double kMemoryBound = 0.75;

struct ForecastOptions {
  double position = 1024;  // tokens in the cache while the answer is written
  double prompt_tokens = 512;
  double chunk = 256;     // rows of a prompt's step
  HitRate hits;           // of decode, where not all experts have a slot
  std::string hits_from;  // "curve drifting", "trace T"
};

/// A part of the time that its resource is busy with.
struct Stage {
  std::string name;      // "dense weights"
  std::string resource;  // "ram", "cpu", "nvme"
  double seconds = 0;
  std::string formula;  // with its numbers
};

struct Speed {
  double tok_s = 0;
  double low = 0;
  double high = 0;
  std::string limit;  // the resource that is busy longest
  std::vector<Stage> stages;
  StepSeconds token;  // what a token takes by part, reads in the background counted where they are waited for
};

struct Forecast {
  Speed decode;
  Speed prefill;
  double first_token_s = 0;  // the prompt's time
  double load_s = 0;         // from the drive until the first step can run
  double load_bytes = 0;
  HitRate hits;  // 1 where all experts have a slot
  double ram_bytes_per_token = 0;
  double nvme_bytes_per_token = 0;
};

/// `plan` is of the same model as `work`. Every figure is finite; tok_s is 0 where a rate that is needed is
/// 0. With more slots and the rest as it is, decode is never slower.
Forecast MakeForecast(const ModelWork& work, const Plan& plan, const Rates& rates,
                      const ForecastOptions& options);

/// Share of experts with a slot: what HitRateOf is asked with. Staging slots count: what is in them is used.
double SlotShare(const Plan& plan);

}  // namespace moraine
