// One step through all layers: the walk of a token. Prefill is the same walk with more rows.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "runtime/core/dense.h"
#include "runtime/core/experts.h"
#include "runtime/core/model_shape.h"
#include "runtime/core/result.h"
#include "runtime/expert_cache.h"
#include "runtime/expert_grouping.h"
#include "runtime/step_seconds.h"
#include "runtime/step_trace.h"

namespace moraine {

/// Sees every routing decision: traces and tests. Called on the step's thread; the Routing is valid during
/// the call.
using RouteObserver = std::function<void(LayerId, const Routing&)>;

/// May put other experts and weights in the place of what the router chose: for measuring with choices that
/// are like a real text's on random weights. What it points to outlives the layer.
using RouteOverride = std::function<void(LayerId, Routing*)>;

/// The rooms that a step walks through; all borrowed, driven by one thread.
struct StepParts {
  const ModelShape& shape;
  Dense& dense;
  Experts& experts;
  ExpertCache& cache;
  ExpertGrouping& grouping;
  RouteObserver observer;        // may be empty
  RouteOverride override_route;  // may be empty
  StepTrace* trace = nullptr;    // may be null; has begun its step
  StepSeconds seconds = {};      // of all layers so far
};

/// Runs `embedded` [T, H], the rows of `sequences`, through layers 0..L-1. Their hidden states stay in
/// `parts.dense`, ready for Head. Allocates nothing. Errors are those of Dense, Experts and ExpertCache;
/// after one, the caller calls ExpertCache::Abandon.
Status DecodeStep(StepParts& parts, std::span<const SequenceRows> sequences, std::span<const float> embedded);

/// Runs MTP layer `layer` on rows whose hidden states after the final norm are `hidden` and whose next tokens
/// are embedded as `embedded`; ready for MtpHead. Row t then predicts token t + 2 (DeepSeek-V3, arXiv
/// 2412.19437, section 2.2; the norm first is what transformers' MtpModel and vLLM's deepseek_mtp feed it).
Status MtpStep(StepParts& parts, LayerId layer, std::span<const SequenceRows> sequences,
               std::span<const float> embedded, std::span<const float> hidden);

}  // namespace moraine
