// The arithmetic of a rehearsal: which layers fit the drive, how memory is shared out, what a few layers say
// about all. Pure.
//
// A step's time is a + m x n: `a` for the head and the dense layers, which a rehearsal has all of, and m for
// each of n MoE layers. Two rehearsals with different n give both.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "runtime/core/result.h"
#include "runtime/planner.h"
#include "storage/checkpoint.h"

namespace moraine::tools {

/// Bytes as stored.
struct RehearsalBytes {
  int64_t rest = 0;       // embedding, head, dense layers
  int64_t moe_layer = 0;  // the first MoE layer
};
RehearsalBytes BytesOf(const Checkpoint& checkpoint);

/// MoE layers of the two rehearsals, beside all dense layers of the model.
struct RehearsalLayers {
  int32_t low = 0;
  int32_t high = 0;
  int64_t bytes = 0;  // of both on the drive
};

/// As many layers as `disk` bytes hold, at most `most`; 0 and 1 at the least, or 1 and 2 of a model without
/// dense layers. With room for three more, the smaller one has one MoE layer too, which keeps caches from
/// flattering it. kUsage for a model without experts, kDoesNotFit with what is short.
Result<RehearsalLayers> ChooseLayers(const ModelShape& shape, const RehearsalBytes& bytes, int64_t disk,
                                     int32_t most);

/// A config.json with all dense layers of `config_text` and `moe_layers` more, no MTP layers.
Result<std::string> RehearsalConfig(const std::string& config_text, const ModelShape& shape,
                                    int32_t moe_layers);

/// Experts that have a slot among `moe_layers` layers, where `plan` divides memory for all of them: the same
/// share, and no fewer than a step needs. Empty where all have one.
std::optional<int64_t> RehearsalSlots(const ModelShape& shape, const Plan& plan, int32_t moe_layers);

/// Seconds of the same step in both rehearsals, one after the other.
struct RehearsalPair {
  double low_s = 0;
  double high_s = 0;
};

struct Extrapolation {
  double rest_s = 0;       // head and dense layers
  double moe_layer_s = 0;  // one MoE layer
  double step_s = 0;       // the whole model's
  double fastest_s = 0;    // of the pairs
  double slowest_s = 0;
};

/// To `moe_layers` MoE layers: medians of the pairs' results. kInternal when the larger rehearsal was not the
/// slower one in the middle: then something else was measured.
Result<Extrapolation> Extrapolate(std::span<const RehearsalPair> pairs, const RehearsalLayers& layers,
                                  int32_t moe_layers);

}  // namespace moraine::tools
