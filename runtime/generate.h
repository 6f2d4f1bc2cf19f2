// Generate: prompt in, tokens out, until an end-of-sequence token, a limit or the caller says stop.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/engine.h"
#include "runtime/sampler.h"

namespace moraine {

enum class FinishReason { kStop, kLength, kInterrupted };
/// "stop", "length", "interrupted".
const char* Name(FinishReason reason);

struct GenerateOptions {
  SamplingOptions sampling;
  int64_t max_tokens = 0;            // 0: until the context is full
  std::vector<int32_t> stop_tokens;  // end the text; the one met is not part of it
};

struct Generated {
  std::vector<int32_t> tokens;
  FinishReason reason = FinishReason::kLength;
  int64_t prompt_tokens = 0;
  double prefill_seconds = 0;
  double decode_seconds = 0;  // of all tokens but the first, which prefill yields
  StepSeconds prefill_parts;  // of that time
  StepSeconds decode_parts;
  int64_t decode_ram_bytes = 0;  // read meanwhile, by tier
  int64_t decode_nvme_bytes = 0;
  int64_t decode_hits = 0;  // experts that were in memory, and that were not
  int64_t decode_misses = 0;
};

/// kUsage, with both numbers, for an empty prompt and for one that leaves no room for one token of an answer
/// in a sequence that holds `before` tokens.
Status CheckPrompt(const Engine& engine, int64_t before, int64_t prompt);

/// Runs `prompt` on `sequence` (which may hold earlier turns) and generates. `on_token` is called for each
/// token as it is chosen; false stops. `interrupted` (may be empty) is asked between steps and chunks. A
/// prompt that leaves no room for one token is refused with both numbers before anything is computed
/// (kUsage). Blocks; runs on the engine's thread.
Result<Generated> Generate(Engine& engine, Sequence* sequence, std::span<const int32_t> prompt,
                           const GenerateOptions& options, const std::function<bool(int32_t)>& on_token,
                           const std::function<bool()>& interrupted = {});

}  // namespace moraine
