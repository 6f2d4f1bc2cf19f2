// Sampler: from logits to a token id.
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "runtime/core/result.h"

namespace moraine {

struct SamplingOptions {
  float temperature = 0.6f;  // 0: greedy
  int32_t top_k = 0;         // 0: all
  float top_p = 0.95f;       // (0, 1]
  float min_p = 0.f;         // [0, 1): share of the best token's probability
  float repetition_penalty =
      1.f;  // > 0: logits of tokens seen (prompt included) divided if positive, else multiplied
  float presence_penalty = 0.f;   // subtracted once for a token generated before
  float frequency_penalty = 0.f;  // subtracted per time it was generated
  uint64_t seed = 0;
};

/// kUsage naming the option, its value and its range.
Status CheckSampling(const SamplingOptions& options);

/// Penalties, then temperature, top-k, top-p and min-p in this order on one sorted list (as transformers'
/// logits processors do), then a draw from own 64-bit generator: the same seed and logits give the same
/// tokens on every machine. Ties go to the lower id. One sequence per sampler; one thread.
class Sampler {
 public:
  /// `options` have passed CheckSampling.
  explicit Sampler(const SamplingOptions& options);

  /// Tokens of the prompt: they count for the repetition penalty.
  void Accept(std::span<const int32_t> prompt);
  /// Chooses from `logits` [V] and counts the choice. What is -infinity is never chosen; at least one is
  /// finite.
  int32_t Sample(std::span<const float> logits);

  /// Most that one takes beside its tokens seen.
  static double Bytes(int64_t vocab) {
    return static_cast<double>(vocab) * (sizeof(Candidate) + sizeof(double));
  }

 private:
  struct Seen {
    int32_t generated = 0;
  };
  struct Candidate {
    float logit;
    int32_t token;
  };
  float Penalised(int32_t token, float logit) const;
  int32_t Greedy(std::span<const float> logits) const;
  int32_t Draw(std::span<const float> logits);
  void Keep(size_t count);
  double Uniform();

  SamplingOptions options_;
  uint64_t random_;
  std::unordered_map<int32_t, Seen> seen_;
  std::vector<Candidate> candidates_;
  std::vector<double> weights_;
};

}  // namespace moraine
