// What a request adds to and takes from a model's logits before a token is chosen.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "runtime/core/result.h"

namespace moraine {

using LogitBias = std::span<const std::pair<int32_t, float>>;

/// kUsage naming a token outside the vocabulary or a bias that is not finite.
Status CheckBias(LogitBias bias, int64_t vocab);

/// `logits` is [V]; ids are within it. What is forbidden becomes -infinity.
void AddBias(LogitBias bias, std::span<float> logits);
void Forbid(std::span<const int32_t> tokens, std::span<float> logits);
/// `allowed` as TokenMask gives it: a bit a token, or empty for all.
void KeepAllowed(std::span<const uint64_t> allowed, std::span<float> logits);

}  // namespace moraine
