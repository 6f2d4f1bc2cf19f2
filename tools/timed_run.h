// Prompts and greedy answers with a clock beside them, for commands that measure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/engine.h"

namespace moraine::tools {

/// `tokens` ids below `vocab`; the same seed gives the same ones.
std::vector<int32_t> RandomPrompt(int64_t tokens, int64_t vocab, uint32_t seed);

/// Seconds of the prompt. `ids` takes the token the logits are for, and nothing else. kInterrupted between
/// chunks after Ctrl-C.
Result<double> TimePrompt(Engine* engine, Sequence* sequence, std::span<const int32_t> prompt,
                          std::vector<int32_t>* ids);

struct TimedAnswer {
  double seconds = 0;
  EngineStats read;         // by these tokens
  double hit_rate() const;  // of routed experts; 1 where none ran
};

/// Decodes `tokens` more, each the likeliest, the first after ids->back(); appends them. kInterrupted between
/// tokens.
Result<TimedAnswer> TimeAnswer(Engine* engine, Sequence* sequence, int64_t tokens, std::vector<int32_t>* ids);

}  // namespace moraine::tools
