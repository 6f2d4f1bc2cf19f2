#include "runtime/allowed_logits.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>

#include "runtime/core/check.h"

namespace moraine {
namespace {

constexpr float kForbidden = -std::numeric_limits<float>::infinity();
constexpr size_t kBits = 64;

}  // namespace

Status CheckBias(LogitBias bias, int64_t vocab) {
  for (const auto& [token, value] : bias) {
    if (token >= 0 && token < vocab && std::isfinite(value)) continue;
    return Fail(ErrorKind::kUsage,
                fmt::format("logit_bias of token {} is {}; expected a finite number and a token from 0 to {}",
                            token, value, vocab - 1));
  }
  return {};
}

void AddBias(LogitBias bias, std::span<float> logits) {
  for (const auto& [token, value] : bias) logits[static_cast<size_t>(token)] += value;
}

void Forbid(std::span<const int32_t> tokens, std::span<float> logits) {
  for (const int32_t token : tokens) logits[static_cast<size_t>(token)] = kForbidden;
}

void KeepAllowed(std::span<const uint64_t> allowed, std::span<float> logits) {
  if (allowed.empty()) return;
  MORAINE_CHECK_EQ(allowed.size(), (logits.size() + kBits - 1) / kBits);
  for (size_t word = 0; word < allowed.size(); ++word) {
    if (allowed[word] == ~uint64_t{0}) continue;
    const auto of_word = logits.subspan(word * kBits, std::min(kBits, logits.size() - word * kBits));
    for (size_t i = 0; i < of_word.size(); ++i) {
      if ((allowed[word] >> i & 1) == 0) of_word[i] = kForbidden;
    }
  }
}

}  // namespace moraine
