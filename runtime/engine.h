// The door of the engine: open a checkpoint, keep sequences, run steps.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cpu/gemm/gemm_report.h"
#include "policies/eviction.h"
#include "runtime/core/ids.h"
#include "runtime/core/kv_format.h"
#include "runtime/core/model_shape.h"
#include "runtime/core/result.h"
#include "runtime/core/sha256.h"
#include "runtime/decode_step.h"
#include "runtime/expert_cache.h"
#include "runtime/model_work.h"
#include "runtime/planner.h"
#include "runtime/step_seconds.h"
#include "storage/hf_config.h"
#include "storage/streamer.h"

namespace moraine {

class Dense;
class KvAllocator;

/// Routed experts: how many stay in memory, which, and how the others are read.
struct ExpertOptions {
  std::optional<int64_t> slots;    // empty: as many as memory holds
  std::optional<int32_t> staging;  // of them, for what is missing; empty: by the plan
  std::optional<int32_t> floor;    // kept experts of a layer that others cannot take; empty: by the plan
  bool second_touch = false;       // a newcomer is kept only from its second use on
  EvictionOptions eviction;
  PrefetchOptions prefetch;
  StreamerOptions streamer;
  std::function<std::unique_ptr<StreamBackend>()> backend;  // ExpertCacheOptions
};

struct EngineOptions {
  int64_t context = 0;          // positions per sequence; 0: the smaller of the model's context and 8192
  int32_t sequences = 1;        // that may be open at once with a full context each
  int32_t prefill_chunk = 256;  // rows of the largest step
  int32_t page_tokens = 64;     // positions per KV page
  KvType kv_type = KvType::kBf16;
  int threads = 0;      // 0: one per usable CPU
  int switch_over = 0;  // rows from which on tiles multiply; 0: as measured (CpuOptions::switch_over)
  std::string isa = "auto";
  std::string topology;          // CpuOptions::topology
  bool f32_activations = false;  // no product rounds its input, to int8 or to bf16: slower
  bool mtp = false;              // load the MTP layers too
  std::optional<int64_t> ram;  // ceiling in bytes over all the process holds; empty: what the kernel and the
                               // control groups allow, less `margin`
  std::optional<int64_t> margin;  // empty: 256 MiB, or a fiftieth if that is more
  bool disk_prefix = false;       // room for the buffers of a DiskPrefix
  ExpertOptions experts;
  LoadProgress progress;         // may be empty
  RouteObserver observer;        // may be empty; must not call the engine
  RouteOverride override_route;  // likewise
  std::string trace;             // file to record what routers choose in; empty: none
};

/// A sequence's place in the KV cache. Move-only; gives its pages back when destroyed, before its engine is.
/// Pages may be shared with what was forked from it or what it was forked from; who writes first into a page
/// that others hold gets a copy of it.
class Sequence {
 public:
  Sequence(Sequence&& other) noexcept;
  Sequence& operator=(Sequence&& other) noexcept;
  ~Sequence();

  /// Tokens in the cache.
  int64_t length() const { return length_; }
  std::span<const PageId> pages() const { return pages_; }
  /// Forgets tokens from `length` on (<= length()): they can be computed anew.
  void Truncate(int64_t length);

 private:
  friend class Engine;
  Sequence(KvAllocator* allocator, int32_t page_tokens, int32_t number)
      : allocator_(allocator), page_tokens_(page_tokens), number_(number) {}
  Status Grow(int64_t length, Dense* dense);
  int32_t PagesToTake(int64_t length) const;
  bool WritesIntoShared() const;

  KvAllocator* allocator_;
  int32_t page_tokens_;
  int32_t number_;  // of the engine's sequences, for traces
  int64_t length_ = 0;
  std::vector<PageId> pages_;
};

/// New tokens of one sequence.
struct StepInput {
  Sequence* sequence = nullptr;
  std::span<const int32_t> tokens;  // at least one
};

/// What steps have read, by tier, since the engine was opened.
struct EngineStats {
  int64_t rows = 0;  // tokens run through the layers
  int64_t steps = 0;
  int64_t vram_bytes = 0;
  int64_t ram_bytes = 0;      // dense weights once per step, routed experts once per layer and step
  int64_t nvme_bytes = 0;     // embedding rows, and experts that were missing
  int64_t expert_hits = 0;    // distinct experts of a layer and step that were in memory
  int64_t expert_misses = 0;  // that were not
  int64_t guesses = 0;        // experts read ahead, and of them used
  int64_t guesses_used = 0;
  int64_t read_retries = 0;  // reads that failed or came short and were made again
  StepSeconds seconds;
};

/// All calls come from one thread and block until done. Tokens outside the vocabulary and sequences that
/// would outgrow their context are kUsage with both numbers, before anything is computed; a sequence that saw
/// an error keeps its former length.
class Engine {
 public:
  /// Opens the HF folder, checks it, checks that it fits, loads it. Errors: kModel (files), kDoesNotFit
  /// (needed and available bytes), kUsage (options), kInterrupted (progress said stop), kIo.
  static Result<std::unique_ptr<Engine>> Open(const std::string& folder, const EngineOptions& options);
  ~Engine();

  const ModelShape& shape() const;
  const GenerationDefaults& generation() const;
  int64_t context() const;
  /// As given to Open.
  const EngineOptions& options() const;
  EngineStats stats() const;
  /// How memory was divided; what Open took its sizes from.
  const Plan& plan() const;
  /// What a token costs, for a forecast.
  const ModelWork& work() const;
  /// What the streamer had to do without, each said once ("io_uring is refused here: ..."), the plan's
  /// warnings, and why a trace has stopped.
  std::vector<std::string> Notices() const;
  /// "2 threads, fp8-e4m3-block: avx2, ...": for the start-up line.
  std::string Describe() const;

  /// What oneDNN multiplied so far, and with which of its implementations.
  GemmReport PrefillReport() const;

  /// From the next step on.
  void SetPrefetch(const PrefetchOptions& prefetch);

  Sequence NewSequence();
  /// A sequence that begins with the first `length` tokens of `from` (<= from.length()) and shares the pages
  /// that hold them: takes no page, copies nothing yet.
  Sequence Fork(const Sequence& from, int64_t length);

  /// KV pages that no sequence holds, and how many of them `sequence` will take for `tokens` more.
  int32_t free_pages() const;
  int32_t PagesFor(const Sequence& sequence, int64_t tokens) const;

  /// Two engines with the same digest write the same bits into the KV pages of the same tokens, computed in
  /// the same chunks: model, kernels, KV type, page, and the version of moraine. Reads a little of
  /// each shard; kModel, kIo.
  Result<Digest> KvIdentity() const;
  /// Of a KV page, all layers.
  int64_t page_bytes() const;
  /// Copies whole pages of `sequence`, from its `first`-th on, to `out`. kInternal, kDeviceLost.
  Status SavePages(const Sequence& sequence, int64_t first, std::span<std::byte> out);
  /// Lengthens `sequence`, which ends where a page does, by the pages in `in`. kInternal where none are left:
  /// its length is as before.
  Status LoadPages(Sequence* sequence, std::span<const std::byte> in);

  /// Logits after the last token of each input, [inputs.size(), V], valid until the next step. All inputs
  /// together have at most prefill_chunk tokens, no sequence twice. Where each has one token, every row has
  /// the bits of a step of its own.
  Result<std::span<const float>> Step(std::span<const StepInput> inputs);

  /// The same for one sequence and without logits: a prompt's chunk that is not its last.
  Status Extend(Sequence* sequence, std::span<const int32_t> tokens);

  /// Runs `tokens` in chunks and returns the logits after the last, [V]. `stop` (may be empty) is asked
  /// between chunks with the tokens done; true ends with kInterrupted.
  using Stop = std::function<bool(int64_t done)>;
  Result<std::span<const float>> Prefill(Sequence* sequence, std::span<const int32_t> tokens,
                                         const Stop& stop = {});

  /// Runs `tokens` in chunks and hands the logits of every one to `sink(first index, logits [n, V])` in
  /// order.
  using LogitSink = std::function<Status(int64_t first, std::span<const float> logits)>;
  Status Score(Sequence* sequence, std::span<const int32_t> tokens, const LogitSink& sink);

 private:
  struct State;
  explicit Engine(std::unique_ptr<State> state);
  Status Run(std::span<const StepInput> inputs);

  std::unique_ptr<State> state_;
};

}  // namespace moraine
