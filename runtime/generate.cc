#include "runtime/generate.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>

namespace moraine {
namespace {

using Clock = std::chrono::steady_clock;

double Since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

const char* Name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kInterrupted:
      return "interrupted";
  }
  return "?";
}

Status CheckPrompt(const Engine& engine, int64_t before, int64_t prompt) {
  const int64_t used = before + prompt;
  if (prompt == 0) return Fail(ErrorKind::kUsage, "the prompt is empty: nothing to continue");
  if (used < engine.context()) return {};
  return Fail(ErrorKind::kUsage, fmt::format("the prompt has {} tokens and the context {} positions: no "
                                             "room for an answer; raise --ctx (this model "
                                             "allows {}) or shorten the prompt",
                                             used, engine.context(), engine.shape().context));
}

Result<Generated> Generate(Engine& engine, Sequence* sequence, std::span<const int32_t> prompt,
                           const GenerateOptions& options, const std::function<bool(int32_t)>& on_token,
                           const std::function<bool()>& interrupted) {
  MORAINE_RETURN_IF_ERROR(CheckSampling(options.sampling));
  const auto prompt_tokens = static_cast<int64_t>(prompt.size());
  const int64_t used = sequence->length() + prompt_tokens;
  MORAINE_RETURN_IF_ERROR(CheckPrompt(engine, sequence->length(), prompt_tokens));
  const auto stopped = [&] { return interrupted && interrupted(); };
  Generated result;
  result.prompt_tokens = prompt_tokens;
  Sampler sampler(options.sampling);
  sampler.Accept(prompt);

  const StepSeconds at_start = engine.stats().seconds;
  const auto start = Clock::now();
  auto logits = engine.Prefill(sequence, prompt, [&](int64_t) { return stopped(); });
  if (!logits.has_value()) {
    if (logits.error().kind != ErrorKind::kInterrupted) return tl::unexpected(logits.error());
    result.reason = FinishReason::kInterrupted;
    return result;
  }
  result.prefill_seconds = Since(start);

  const EngineStats before = engine.stats();
  result.prefill_parts = before.seconds - at_start;
  const auto decode_start = Clock::now();
  const int64_t room = engine.context() - used;
  const int64_t limit = options.max_tokens == 0 ? room : std::min(options.max_tokens, room);
  while (true) {
    if (stopped()) {
      result.reason = FinishReason::kInterrupted;
      break;
    }
    const int32_t token = sampler.Sample(*logits);
    if (std::ranges::find(options.stop_tokens, token) != options.stop_tokens.end()) {
      result.reason = FinishReason::kStop;
      break;
    }
    result.tokens.push_back(token);
    if (!on_token(token)) {
      result.reason = FinishReason::kStop;
      break;
    }
    if (static_cast<int64_t>(result.tokens.size()) >= limit) break;
    const StepInput input{sequence, {&token, 1}};
    logits = engine.Step({&input, 1});
    if (!logits.has_value()) return tl::unexpected(logits.error());
  }
  result.decode_seconds = Since(decode_start);
  result.decode_ram_bytes = engine.stats().ram_bytes - before.ram_bytes;
  result.decode_nvme_bytes = engine.stats().nvme_bytes - before.nvme_bytes;
  result.decode_hits = engine.stats().expert_hits - before.expert_hits;
  result.decode_parts = engine.stats().seconds - before.seconds;
  result.decode_misses = engine.stats().expert_misses - before.expert_misses;
  return result;
}

}  // namespace moraine
