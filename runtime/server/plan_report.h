// GET /plan: how memory was divided, and how fast that was expected to be and is.
#pragma once

#include <string>

#include "runtime/server/served_model.h"

namespace moraine {

/// The plan's JSON with "predicted" (ServedModel::predict; absent without) and "measured": {decode_tok_s,
/// prefill_tok_s, hit_rate, nvme_bytes_per_token, decode_rows, prompt_rows}. Decode is of sequences that
/// decoded alone, as the prediction is; what was not measured yet is null.
std::string PlanWithSpeed(const ServedModel& model);

}  // namespace moraine
