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
// A token is chosen from the model's logits with the request's bias added, then without stop tokens before
// min_tokens, then without what its mask does not allow, and only then by the sampler's rules. A text that
// its mask says is whole ends there (kStop), min_tokens or not. Log-probabilities are the model's own.
//
// With SchedulerOptions::disk, prompts are also kept on the drive (disk_cache/disk_prefix.h): there they
// outlive the process and those that memory has no room for.
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
#include <utility>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/core/token_mask.h"
#include "runtime/disk_cache/disk_prefix_options.h"
#include "runtime/engine.h"
#include "runtime/generate.h"
#include "runtime/logprobs.h"
#include "runtime/sampler.h"

namespace moraine {

/// What one request wants. Ids are of the model's vocabulary.
struct GenerationRequest {
  std::vector<int32_t> prompt;  // at least one
  SamplingOptions sampling;
  int64_t max_tokens = 0;                             // 0: until the context is full
  int64_t min_tokens = 0;                             // stop tokens cannot be chosen before
  std::vector<int32_t> stop_tokens;                   // end the text; the one met is not part of it
  std::vector<std::pair<int32_t, float>> logit_bias;  // added to tokens' logits; finite
  std::shared_ptr<TokenMask>
      mask;                      // of this request alone, the scheduler's from Submit to OnDone; null: none
  int32_t top_logprobs = -1;     // -1: no log-probabilities; else of the token and that many best
  bool prompt_logprobs = false;  // of the prompt's tokens too (OnPromptToken)
  std::string client;            // whose: turns are shared out between clients, cached prompts are not
  bool on_disk = true;           // its prompt may be read from the drive and kept there
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
  DiskPrefixOptions disk;
};

/// What may be changed while requests run; empty: stays.
struct SchedulerChanges {
  std::optional<int32_t> queue;
  std::optional<PrefetchOptions> prefetch;
  bool retry_disk = false;  // a drive that was full may not be any more
};

/// How fast steps were, since the start. A sequence that decodes alone is what a forecast is of.
struct SchedulerSpeed {
  int64_t prompts = 0;
  int64_t prompt_rows = 0;  // computed, in steps that succeeded
  double prompt_seconds = 0;
  int64_t decode_rows = 0;  // of any number of sequences a step
  double decode_seconds = 0;
  int64_t alone_rows = 0;  // of steps with one
  double alone_seconds = 0;
  int64_t decode_hits = 0;
  int64_t decode_misses = 0;
  int64_t decode_nvme_bytes = 0;
};

struct SchedulerStats {
  int64_t running = 0, waiting = 0;
  int64_t finished = 0, cancelled = 0, failed = 0, refused = 0;
  int64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
  int64_t steps = 0;
  EngineStats engine;  // as of the last step
  SchedulerSpeed speed;
  bool on_disk = false;
  DiskPrefixStats disk;
};

using RequestId = uint64_t;

class Scheduler {
 public:
  /// Takes the engine; starts the thread. Errors are those of DiskPrefix::Create.
  static Result<std::unique_ptr<Scheduler>> Start(std::unique_ptr<Engine> engine,
                                                  const SchedulerOptions& options);
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

  /// Any thread; heeded before the next step.
  void Change(const SchedulerChanges& changes);
  /// Any thread. Asks the scheduler's thread for a sign of life; Turns has grown once it gave one, at the end
  /// of the step under way.
  void Poke();
  uint64_t Turns() const;

  const ModelShape& shape() const;
  int64_t context() const;

  /// Takes nothing new; returns when all is done, prompts on the drive included, or `grace` is over (then
  /// cancels the rest).
  void Drain(std::chrono::milliseconds grace);

 private:
  class Loop;
  explicit Scheduler(std::unique_ptr<Loop> loop);

  std::unique_ptr<Loop> loop_;
};

}  // namespace moraine
