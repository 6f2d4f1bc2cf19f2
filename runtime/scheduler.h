// Scheduler: many requests on one engine, each served as if it were alone.
//
// A thread of its own runs all steps: one that decodes every running sequence, in turn with one chunk of one
// prompt, so that a long prompt delays the others by one chunk at a time. The two are not mixed: rows that
// decode are multiplied as in a step of their own (dense.h, AreSingleRows), a prompt's with many-row kernels
// and always in the same chunks. So the tokens of a request do not depend on who else is served.
//
// Clients share alike: the next place goes to the client that runs fewest, the next chunk to the one whose
// turn is longest ago, and where a client waits that runs nothing, the newest prompt of one that runs several
// is put back. A sequence that is decoding is never put back.
//
// What a request has computed stays in KV pages that nobody else needs (prefix_cache.h). A later prompt of
// the same client that begins with the same tokens, a page of them or more, begins there. The values are
// those of the chunks that computed them, equal to a fresh prompt's within rounding.
//
// A step that fails is run again for each of its sequences alone (a failed step leaves their lengths as they
// were), so that only the request whose expert cannot be read ends with the error. A lost device ends all.
//
// Memory: KV pages are the engine's; a sampler's list for each sequence, and the logits of many, are in its
// plan (scratch). Tokens take 4 bytes each, at most 8 MiB for prompts that wait and 8 MiB for sequences
// that are kept; they and two rows of logits are of what the plan leaves to the process.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/engine.h"
#include "runtime/generate.h"
#include "runtime/logprobs.h"
#include "runtime/sampler.h"

namespace moraine {

/// What one request wants. Ids are of the model's vocabulary.
struct GenerationRequest {
  std::vector<int32_t> prompt;  // at least one
  SamplingOptions sampling;
  int64_t max_tokens = 0;            // 0: until the context is full
  int64_t min_tokens = 0;            // stop tokens cannot be chosen before
  std::vector<int32_t> stop_tokens;  // end the text; the one met is not part of it
  int32_t top_logprobs = -1;         // -1: no log-probabilities; else of the token and that many best
  bool prompt_logprobs = false;      // of the prompt's tokens too (OnPromptToken)
  std::string client;                // whose: turns are shared out between clients, cached prompts are not
  std::optional<std::chrono::steady_clock::time_point> deadline;  // heeded between steps
};

struct GenerationUsage {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of them, not computed anew
  int64_t completion_tokens = 0;
  double queue_seconds = 0;
  double prefill_seconds = 0;
  double decode_seconds = 0;
};

/// Hears of one request. Called on the scheduler's thread, one call at a time; must not block, and may call
/// any method of the scheduler but Drain. OnDone is called exactly once and last: after Cancel with
/// FinishReason::kInterrupted, else with how it ended, or the error (kInterrupted for a deadline).
class GenerationSink {
 public:
  virtual ~GenerationSink() = default;
  /// Every so often during a prompt.
  virtual void OnPrefill(int64_t done, int64_t total) { (void)done, (void)total; }
  /// With prompt_logprobs: position `index` of the prompt, in order from 1 (0 has none).
  virtual void OnPromptToken(int64_t index, const TokenLogprobs& logprobs) { (void)index, (void)logprobs; }
  /// `logprobs` is null without top_logprobs. False ends the request as if a stop token had come (a stop
  /// string was met).
  virtual bool OnToken(int32_t id, const TokenLogprobs* logprobs) = 0;
  /// With top_logprobs: the stop token that ends the text and is not part of it.
  virtual void OnStopToken(int32_t id, const TokenLogprobs& logprobs) { (void)id, (void)logprobs; }
  virtual void OnDone(Result<FinishReason> outcome, const GenerationUsage& usage) = 0;
};

struct SchedulerOptions {
  int32_t running = 8;  // sequences at once; no more than the engine has
  int32_t queue = 64;   // requests that wait
  int32_t chunk = 0;    // rows of a prompt between two decode steps; 0: the engine's prefill_chunk
};

struct SchedulerStats {
  int64_t running = 0, waiting = 0;
  int64_t finished = 0, cancelled = 0, failed = 0, refused = 0;
  int64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
  int64_t steps = 0;
  EngineStats engine;  // as of the last step
};

using RequestId = uint64_t;

class Scheduler {
 public:
  /// Takes the engine; starts the thread.
  static std::unique_ptr<Scheduler> Start(std::unique_ptr<Engine> engine, const SchedulerOptions& options);
  /// Cancels everything, joins.
  ~Scheduler();

  /// Any thread, never blocks on a step. kUsage: prompt too long for the context (both numbers), empty, ids
  /// outside the vocabulary, a sampling option out of range. kBusy: the queue is full, or draining. The
  /// engine's error once it has failed for good. No sink call is made when it fails.
  Result<RequestId> Submit(GenerationRequest request, std::shared_ptr<GenerationSink> sink);
  /// Any thread; takes effect within one step. Unknown ids are ignored.
  void Cancel(RequestId id);

  /// Any thread. Error: the engine failed for good and nothing can run.
  Status Health() const;
  SchedulerStats stats() const;

  const ModelShape& shape() const;
  int64_t context() const;

  /// Takes nothing new; returns when all is done or `grace` is over (then cancels the rest).
  void Drain(std::chrono::milliseconds grace);

 private:
  class Loop;
  explicit Scheduler(std::unique_ptr<Loop> loop);

  std::unique_ptr<Loop> loop_;
};

}  // namespace moraine
