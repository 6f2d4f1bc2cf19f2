#include "runtime/logprobs.h"

#include <algorithm>
#include <cmath>

#include "runtime/core/check.h"

namespace moraine {

TokenLogprobs LogprobsOf(std::span<const float> logits, int32_t token, int32_t best) {
  MORAINE_CHECK(token >= 0 && static_cast<size_t>(token) < logits.size());
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  const double log_sum = largest + std::log(sum);
  const auto logprob = [&](float logit) { return static_cast<float>(static_cast<double>(logit) - log_sum); };

  TokenLogprobs result{.logprob = logprob(logits[static_cast<size_t>(token)])};
  const size_t count = std::min(static_cast<size_t>(std::max(best, 0)), logits.size());
  // Sorted at all times, as logits first: a handful, of which few change once the first have gone by.
  for (size_t id = 0; id < logits.size() && count > 0; ++id) {
    if (result.best.size() == count && logits[id] <= result.best.back().second) continue;
    if (result.best.size() == count) result.best.pop_back();
    const auto at = std::find_if(result.best.begin(), result.best.end(),
                                 [&](const auto& other) { return other.second < logits[id]; });
    result.best.insert(at, {static_cast<int32_t>(id), logits[id]});
  }
  for (auto& [id, value] : result.best) value = logprob(value);
  return result;
}

}  // namespace moraine
