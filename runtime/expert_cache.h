// ExpertCache: which routed experts are in memory, and how the others get there.
//
// Fixed slots, in huge pages of the NUMA node that reads them, filled straight from the checkpoint's files.
// policies/slot_table.h decides who stays; this moves the bytes. An expert that is missing is read while
// those that are there are computed (experts.h: ExpertWork::ready), and its layer goes on in batches where
// the slots cannot hold all it needs, the next batch being read meanwhile.
//
//   BeginStep(rows)
//   for each MoE layer:
//     BeginLayer(layer, routing)
//     while (n = Next(work)) { run work[0, n); Release(); work = work.subspan(n); }
//   Abandon() after an error in between
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "cpu/topology.h"
#include "policies/eviction.h"
#include "policies/prefetch.h"
#include "runtime/core/dense.h"
#include "runtime/core/experts.h"
#include "runtime/core/ticket.h"
#include "runtime/expert_layout.h"
#include "runtime/model_weights.h"
#include "runtime/trace/trace.h"
#include "storage/checkpoint.h"
#include "storage/stream/backend.h"
#include "storage/streamer.h"

namespace moraine {

struct ExpertCacheOptions {
  std::vector<int32_t> slots;  // [class]; at least one each. As many as the class has experts: all stay
  int32_t staging = 0;         // of each class's slots, where they are fewer: where what is missing lands
  int32_t floor = 0;           // SlotTableOptions
  bool second_touch = false;   // SlotTableOptions
  EvictionOptions eviction;
  PrefetchOptions prefetch;
  StreamerOptions streamer;  // its `memory` is set here
  /// Makes a backend to read with in place of the system's: how tests bring a drive that fails. May be empty.
  std::function<std::unique_ptr<StreamBackend>()> backend;
};

/// Counts since Open. A use is one distinct expert of one layer and step.
struct ExpertCacheStats {
  int64_t hits = 0;
  int64_t misses = 0;
  int64_t promoted = 0;
  int64_t guessed = 0;       // experts read ahead on a guess
  int64_t guessed_used = 0;  // of them, wanted by the layer they were read for
  int64_t ram_bytes = 0;     // of experts used, as stored
  int64_t nvme_bytes = 0;    // of experts read from files, as stored, the filling at the start included
  StreamerStats streamer;
};

/// Calls come from one thread. Next, Release and BeginLayer allocate nothing.
class ExpertCache final : public TicketSource {
 public:
  /// Takes the slots' memory (kDoesNotFit when refused) and opens the streamer over the checkpoint's files.
  /// kUsage names an option out of range. `weights` and `topology` outlive it.
  static Result<std::unique_ptr<ExpertCache>> Open(std::shared_ptr<const Checkpoint> checkpoint,
                                                   ExpertLayout layout, const ModelWeights& weights,
                                                   const Topology& topology,
                                                   const ExpertCacheOptions& options);
  ~ExpertCache() override;

  /// Reads experts into free slots, first layers first, until all are there or no slot is free. Blocks;
  /// `progress` as in ModelWeights. kIo, kInterrupted.
  Status Fill(const LoadProgress& progress);
  /// Every expert has a slot of its own.
  bool HoldsAll() const;

  void BeginStep(int32_t rows);
  void BeginLayer(LayerId layer, const Routing& routing);
  /// Gives the first experts of `work` (what is left of the layer's, ascending) slots, and their reads a
  /// start: sets slices and ready of work[0, result), valid until Release. Zero only when `work` is empty.
  /// kIo: a drive that hangs holds every slot that could be had.
  Result<size_t> Next(std::span<ExpertWork> work);
  /// True when LookAhead would make use of a guess for `layer`: prefetch is on and pays, and some are
  /// missing.
  bool WantsGuess(LayerId layer);
  /// Starts reading those of `experts` [rows, top_k] of `layer`, best first, that are missing, behind all
  /// that is needed now, as far as slots go.
  void LookAhead(LayerId layer, std::span<const int32_t> experts);

  /// From the next step on. Between steps.
  void SetPrefetch(const PrefetchOptions& prefetch);

  /// What the last Next gave out has run.
  void Release();
  /// The layer cannot go on: waits for its reads and lets go of its slots. What could not be read is a miss
  /// again.
  void Abandon();

  /// TicketSource of ExpertWork::ready. kIo names file, offset, wanted and got.
  Status Wait(uint64_t number) override;
  bool Done(uint64_t number) override;

  /// Where an expert is now.
  Residency ResidencyOf(LayerId layer, ExpertId expert) const;

  ExpertCacheStats stats() const;
  const Streamer& streamer() const { return *streamer_; }
  /// "14848 slots of 42.1 MiB, all resident" / "1200 of 14848 experts, ewma; io_uring, ...".
  std::string Describe() const;

 private:
  struct Slot;
  struct Pool;
  ExpertCache(std::shared_ptr<const Checkpoint> checkpoint, ExpertLayout layout, const ModelWeights& weights,
              const PrefetchOptions& prefetch);
  Pool& PoolOf(LayerId layer) const;
  int32_t KeyOf(LayerId layer, ExpertId expert) const;
  void StartRead(Pool& pool, int32_t key, SlotId slot, ReadClass urgency);
  Status Settle(Pool& pool, Slot& slot);
  void ForgetFailed(Pool& pool);
  void EndGuesses(LayerId layer, const Routing& routing);
  bool EndOldestGuess();
  void DropReads(const Slot& slot);

  std::shared_ptr<const Checkpoint> checkpoint_;
  ExpertLayout layout_;
  const ModelWeights& weights_;
  std::string policy_;
  std::vector<std::unique_ptr<Pool>> pools_;  // [class]
  std::unique_ptr<Streamer> streamer_;        // goes first: it writes into the pools' memory
  std::vector<StreamRange> ranges_;
  Pool* current_ = nullptr;  // of the layer under way
  struct Guess {
    Pool* pool;
    int32_t key;  // pinned
    bool over;    // its layer has run without it; kept until its reads have ended
  };
  std::vector<Guess> guesses_;
  int32_t guess_width_;  // of a row
  PrefetchWatchdog watchdog_;
  ExpertCacheStats stats_;
};

}  // namespace moraine
