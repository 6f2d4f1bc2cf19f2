#include "runtime/sampler.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/core/check.h"

namespace moraine {
namespace {

Status Refuse(const char* name, double value, const char* allowed) {
  return Fail(ErrorKind::kUsage, fmt::format("{} is {}; expected {}", name, value, allowed));
}

bool Finite(float value) { return std::isfinite(value); }

}  // namespace

Status CheckSampling(const SamplingOptions& o) {
  if (!Finite(o.temperature) || o.temperature < 0.f)
    return Refuse("temperature", o.temperature, "0 (greedy) or above");
  if (o.top_k < 0) return Refuse("top-k", o.top_k, "0 (all) or above");
  if (!Finite(o.top_p) || o.top_p <= 0.f || o.top_p > 1.f)
    return Refuse("top-p", o.top_p, "above 0, at most 1");
  if (!Finite(o.min_p) || o.min_p < 0.f || o.min_p >= 1.f)
    return Refuse("min-p", o.min_p, "0 or above, below 1");
  if (!Finite(o.repetition_penalty) || o.repetition_penalty <= 0.f) {
    return Refuse("repetition-penalty", o.repetition_penalty, "above 0");
  }
  if (!Finite(o.presence_penalty)) return Refuse("presence-penalty", o.presence_penalty, "a finite number");
  if (!Finite(o.frequency_penalty))
    return Refuse("frequency-penalty", o.frequency_penalty, "a finite number");
  return {};
}

Sampler::Sampler(const SamplingOptions& options) : options_(options), random_(options.seed) {}

void Sampler::Accept(std::span<const int32_t> prompt) {
  for (const int32_t token : prompt) seen_.try_emplace(token);
}

float Sampler::Penalised(int32_t token, float logit) const {
  const auto found = seen_.find(token);
  if (found == seen_.end()) return logit;
  logit = logit > 0.f ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
  const int32_t times = found->second.generated;
  if (times > 0) logit -= options_.presence_penalty + options_.frequency_penalty * static_cast<float>(times);
  return logit;
}

int32_t Sampler::Sample(std::span<const float> logits) {
  MORAINE_CHECK(!logits.empty());
  const int32_t token = options_.temperature == 0.f ? Greedy(logits) : Draw(logits);
  ++seen_[token].generated;
  return token;
}

int32_t Sampler::Greedy(std::span<const float> logits) const {
  int32_t best = 0;
  float best_logit = Penalised(0, logits[0]);
  for (int32_t token = 1; token < static_cast<int32_t>(logits.size()); ++token) {
    const float logit = Penalised(token, logits[static_cast<size_t>(token)]);
    if (logit > best_logit) {
      best = token;
      best_logit = logit;
    }
  }
  return best;
}

// Sorts the best `count` candidates to the front and drops the rest.
void Sampler::Keep(size_t count) {
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  };
  count = std::min(count, candidates_.size());
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(count),
                    candidates_.end(), better);
  candidates_.resize(count);
}

int32_t Sampler::Draw(std::span<const float> logits) {
  candidates_.clear();
  for (int32_t token = 0; token < static_cast<int32_t>(logits.size()); ++token) {
    const float logit = logits[static_cast<size_t>(token)];
    if (logit == -std::numeric_limits<float>::infinity()) continue;
    candidates_.push_back({Penalised(token, logit) / options_.temperature, token});
  }
  MORAINE_CHECK(!candidates_.empty());
  Keep(options_.top_k == 0 ? candidates_.size() : static_cast<size_t>(options_.top_k));

  weights_.clear();
  double sum = 0;
  for (const Candidate& candidate : candidates_) {
    weights_.push_back(
        std::exp(static_cast<double>(candidate.logit) - static_cast<double>(candidates_[0].logit)));
    sum += weights_.back();
  }
  // The smallest head of the list whose probability reaches top_p; always at least one.
  size_t kept = 0;
  double kept_sum = 0;
  while (kept < weights_.size()) {
    if (kept > 0 && weights_[kept] < static_cast<double>(options_.min_p)) break;
    kept_sum += weights_[kept++];
    if (kept_sum >= static_cast<double>(options_.top_p) * sum) break;
  }
  double left = Uniform() * kept_sum;
  for (size_t i = 0; i < kept; ++i) {
    left -= weights_[i];
    if (left < 0) return candidates_[i].token;
  }
  return candidates_[kept - 1].token;
}

// splitmix64 (Steele, Lea, Flood 2014): a counter and a mixer, so that any seed, 0 included, gives a good
// stream.
double Sampler::Uniform() {
  random_ += 0x9E3779B97F4A7C15u;
  uint64_t z = random_;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  return static_cast<double>(z >> 11) * 0x1p-53;
}

}  // namespace moraine
