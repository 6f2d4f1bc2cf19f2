// Made-up routing with stated skew and locality, for tests, benches and trying a policy without a model.
#pragma once

#include <cstdint>

#include "policies/routing_trace.h"

namespace moraine {

struct SyntheticRouting {
  int32_t layers = 58;
  int32_t experts = 256;
  int32_t top_k = 8;
  int32_t tokens = 1000;  // decode steps of one row
  int32_t prompt = 0;     // rows of one prefill step before them
  double skew = 0.6;      // Zipf: the r-th expert of a layer is drawn with weight 1 / r^skew; 0: evenly
  double overlap = 0.5;   // of a row's experts, the share that comes from rows before it: 0 to 1
  int32_t memory = 16;    // how far back those rows may lie, each as likely; 1: the row before alone
  uint64_t seed = 1;
};

/// Each layer has an order of its own of its experts. Every row takes `overlap` of its experts (on average)
/// from rows up to `memory` back and draws the rest by the layer's Zipf weights. With a memory of one, lag-1
/// overlap is `overlap` and what chance adds; with a longer one, a set of hot experts drifts, as published
/// traces show. The same options give the same trace on every machine.
RoutingTrace MakeRouting(const SyntheticRouting& options);

/// Mean share of a row's experts that the row before in its layer had too; over all rows but first ones.
double Lag1Overlap(const RoutingTrace& trace);

}  // namespace moraine
