// ewma: decayed frequency. A use weighs 1 when it happens and half as much every half-life; the score is that
// sum at a short half-life (what this text needs now) plus a share of it at a long one (what texts need). A
// newcomer must beat its victim by a margin, so that near equals do not swap places.
//
// Forward decay (Cormode et al., ICDE 2009): instead of shrinking all sums as tokens pass, the weight of a
// new use grows, and a score is the sum over the weight; no exponential per key. Before the weight overflows
// all sums are rescaled.
#pragma once

#include <memory>

#include "policies/eviction.h"

namespace moraine {

/// REQUIRES CheckEviction(options).
std::unique_ptr<Eviction> MakeEwma(const EvictionOptions& options, int32_t keys);

}  // namespace moraine
