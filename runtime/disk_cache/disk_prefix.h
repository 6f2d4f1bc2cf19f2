// DiskPrefix: prompts' KV pages on the drive, for those that begin alike after a restart.
//
// A prompt is cut into blocks of as many tokens as a chunk of prefill and whole KV pages have (256 by
// default). A block's digest is that of the engine that computes it (Engine::KvIdentity), of whose it is, and
// of all tokens from the prompt's first to the block's last: who asks with other tokens, another key, another
// model or other kernels finds nothing. Only prompts are written, never what was answered; it becomes part of
// the next prompt.
//
// Values are those that were computed, bit for bit. Blocks end where chunks do, so a prompt that was computed
// from its beginning goes on from the drive as it would have gone on by itself.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/core/sha256.h"
#include "runtime/disk_cache/block_store.h"
#include "runtime/disk_cache/disk_prefix_options.h"
#include "runtime/engine.h"

namespace moraine {

/// One thread, the engine's, unless said otherwise; a thread of its own writes. Ends before the engine.
class DiskPrefix {
 public:
  /// `chunk`: rows of a prompt's steps. `on_room` is called on the writing thread whenever a block has been
  /// dealt with; empty: never. kUsage: a block does not fit into the store or is too long (DiskBlockTokens).
  /// kIo, kModel as Engine::KvIdentity.
  static Result<std::unique_ptr<DiskPrefix>> Create(Engine* engine, int32_t chunk,
                                                    const DiskPrefixOptions& options,
                                                    std::function<void()> on_room);
  /// What is not on the drive yet is forgotten.
  ~DiskPrefix();

  int64_t block_tokens() const { return block_tokens_; }

  /// The blocks that lie on the drive of the client's prompt, from its beginning on without a gap.
  std::vector<Digest> Find(const std::string& client, std::span<const int32_t> prompt) const;
  /// Lengthens `sequence`, which ends where the block begins, by it. False: it cannot be had after all.
  /// Blocks for the read.
  bool Load(const Digest& block, Sequence* sequence);

  /// To be written when there is room: the whole blocks of `prompt`, which `sequence` holds.
  void Save(const std::string& client, std::span<const int32_t> prompt, Sequence sequence);
  /// Step would do something.
  bool CanStep() const;
  /// Copies at most one block to where it is written from.
  void Step();
  /// Gives pages back: forgets the prompt that has waited longest. False when none waits.
  bool DropOldest();

  /// Any thread: a drive that took no more is tried again.
  void Retry() { refused_ = false; }
  /// Any thread: nothing waits, nothing is being written.
  bool idle() const;
  DiskPrefixStats stats() const;

 private:
  struct Waiting {
    std::vector<Digest> blocks;
    Sequence sequence;
    size_t next = 0;
  };
  struct Job {
    std::vector<std::byte>* content = nullptr;  // null: they were used
    std::vector<Digest> blocks;                 // one, with content
  };

  DiskPrefix(Engine* engine, int64_t block_tokens, const DiskPrefixOptions& options, const Digest& identity,
             std::function<void()> on_room);
  std::vector<Digest> Blocks(const std::string& client, std::span<const int32_t> prompt) const;
  void Post(Job job);
  void WriteJobs();
  void Write(const Job& job);

  Engine* const engine_;
  const std::shared_ptr<BlockStore> store_;
  const Digest identity_;
  const std::function<void(const std::string&)> notice_;
  const std::function<void()> on_room_;
  const int64_t block_tokens_;
  const int64_t block_bytes_;
  std::deque<Waiting> waiting_;
  std::vector<std::byte> read_;

  mutable std::mutex mutex_;
  std::condition_variable posted_;
  // Under the mutex.
  std::vector<std::vector<std::byte>> buffers_;
  std::vector<std::vector<std::byte>*> free_;
  std::deque<Job> jobs_;
  std::set<Digest> under_way_;
  bool writing_ = false;
  bool ending_ = false;
  DiskPrefixStats stats_;

  std::atomic<size_t> waiting_count_{0};
  std::atomic<bool> refused_{false};  // the drive took no more
  bool told_broken_ = false;
  std::thread thread_;
};

}  // namespace moraine
