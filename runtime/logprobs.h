// Log-probabilities: what a model's logits say of one token and of the most likely ones.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace moraine {

struct TokenLogprobs {
  float logprob = 0;  // natural, of the model's distribution before sampling options
  std::vector<std::pair<int32_t, float>> best;  // token and its logprob, most likely first
};

/// log softmax of `logits` [V], all finite, at `token` and at the `best` largest (ties go to the lower id; at
/// most V, none below 1). The largest logit is taken off first and the sum is in double: no logit overflows.
TokenLogprobs LogprobsOf(std::span<const float> logits, int32_t token, int32_t best);

}  // namespace moraine
