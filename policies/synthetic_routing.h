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
  double overlap = 0.3;   // of a row's experts, the share that the row before had chosen: 0 to 1
  uint64_t seed = 1;
};

/// Each layer has an order of its own of its experts. Every row keeps `overlap` of the row before it (on
/// average) and draws the rest by the layer's Zipf weights, so that what is measured as lag-1 overlap is a
/// little more than `overlap`. The same options give the same trace on every machine.
RoutingTrace MakeRouting(const SyntheticRouting& options);

/// Mean share of a row's experts that the row before in its layer had too; over all rows but first ones.
double Lag1Overlap(const RoutingTrace& trace);

}  // namespace moraine
