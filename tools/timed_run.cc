#include "tools/timed_run.h"

#include <algorithm>
#include <random>

#include "tools/bench/read_bandwidth.h"
#include "tools/interrupt.h"

namespace moraine::tools {
namespace {

int32_t Best(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

EngineStats Since(const EngineStats& before, EngineStats now) {
  now.rows -= before.rows;
  now.steps -= before.steps;
  now.vram_bytes -= before.vram_bytes;
  now.ram_bytes -= before.ram_bytes;
  now.nvme_bytes -= before.nvme_bytes;
  now.expert_hits -= before.expert_hits;
  now.expert_misses -= before.expert_misses;
  now.guesses -= before.guesses;
  now.guesses_used -= before.guesses_used;
  now.read_retries -= before.read_retries;
  now.seconds = now.seconds - before.seconds;
  return now;
}

}  // namespace

std::vector<int32_t> RandomPrompt(int64_t tokens, int64_t vocab, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> ids(static_cast<size_t>(tokens));
  for (int32_t& id : ids) id = static_cast<int32_t>(random() % static_cast<uint32_t>(vocab));
  return ids;
}

Result<double> TimePrompt(Engine* engine, Sequence* sequence, std::span<const int32_t> prompt,
                          std::vector<int32_t>* ids) {
  const double start = Seconds();
  MORAINE_ASSIGN_OR_RETURN(const std::span<const float> logits,
                           engine->Prefill(sequence, prompt, [](int64_t) { return Interrupted(); }));
  const double seconds = Seconds() - start;
  ids->assign({Best(logits)});
  return seconds;
}

double TimedAnswer::hit_rate() const {
  const int64_t uses = read.expert_hits + read.expert_misses;
  return uses == 0 ? 1 : static_cast<double>(read.expert_hits) / static_cast<double>(uses);
}

Result<TimedAnswer> TimeAnswer(Engine* engine, Sequence* sequence, int64_t tokens,
                               std::vector<int32_t>* ids) {
  const EngineStats before = engine->stats();
  const double start = Seconds();
  for (int64_t i = 0; i < tokens; ++i) {
    if (Interrupted()) return Fail(ErrorKind::kInterrupted, "stopped");
    const StepInput input{sequence, {&ids->back(), 1}};
    MORAINE_ASSIGN_OR_RETURN(const std::span<const float> logits, engine->Step({&input, 1}));
    ids->push_back(Best(logits));
  }
  return TimedAnswer{.seconds = Seconds() - start, .read = Since(before, engine->stats())};
}

}  // namespace moraine::tools
