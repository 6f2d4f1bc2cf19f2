#include "runtime/disk_cache/disk_prefix.h"

#include <fmt/core.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <ranges>
#include <utility>

#include "runtime/core/check.h"

namespace moraine {
namespace {

// Where workers compute and this thread copies and sums, they go first.
constexpr int kNice = 10;

}  // namespace

Result<std::unique_ptr<DiskPrefix>> DiskPrefix::Create(Engine* engine, int32_t chunk,
                                                       const DiskPrefixOptions& options,
                                                       std::function<void()> on_room) {
  const EngineOptions& of = engine->options();
  const int64_t tokens = DiskBlockTokens(chunk, of.page_tokens);
  if (tokens > kMostDiskBlockTokens) {
    return Fail(ErrorKind::kUsage,
                fmt::format("prefill.chunk is {}: blocks on the drive would have {} tokens, at most {} are "
                            "allowed; a multiple of {} does, or do without serve.prefix_disk",
                            chunk, tokens, kMostDiskBlockTokens, of.page_tokens));
  }
  const int64_t bytes = BlockStore::kHeaderBytes + tokens / of.page_tokens * engine->page_bytes();
  if (bytes > options.store->cap()) {
    return Fail(ErrorKind::kUsage,
                fmt::format("serve.prefix_disk is {} bytes; {} tokens of this model take {}: allow more",
                            options.store->cap(), tokens, bytes));
  }
  MORAINE_ASSIGN_OR_RETURN(const Digest engine_identity, engine->KvIdentity());
  const Digest identity =
      Sha256().AddField(engine_identity).AddField(int64_t{chunk}).AddField(options.realm).Finish();
  return std::unique_ptr<DiskPrefix>(new DiskPrefix(engine, tokens, options, identity, std::move(on_room)));
}

DiskPrefix::DiskPrefix(Engine* engine, int64_t block_tokens, const DiskPrefixOptions& options,
                       const Digest& identity, std::function<void()> on_room)
    : engine_(engine),
      store_(options.store),
      identity_(identity),
      notice_(options.notice),
      on_room_(std::move(on_room)),
      block_tokens_(block_tokens),
      block_bytes_(block_tokens_ / engine->options().page_tokens * engine->page_bytes()),
      read_(static_cast<size_t>(block_bytes_)),
      buffers_(kDiskBuffers - 1, std::vector<std::byte>(static_cast<size_t>(block_bytes_))),
      thread_([this] { WriteJobs(); }) {
  for (std::vector<std::byte>& buffer : buffers_) free_.push_back(&buffer);
}

DiskPrefix::~DiskPrefix() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  posted_.notify_all();
  thread_.join();
}

std::vector<Digest> DiskPrefix::Blocks(const std::string& client, std::span<const int32_t> prompt) const {
  const auto tokens = static_cast<size_t>(block_tokens_);
  std::vector<Digest> blocks;
  Digest before = Sha256().AddField(identity_).AddField(client).Finish();
  for (; prompt.size() >= tokens; prompt = prompt.subspan(tokens)) {
    before = Sha256().AddField(before).AddField(std::as_bytes(prompt.first(tokens))).Finish();
    blocks.push_back(before);
  }
  return blocks;
}

std::vector<Digest> DiskPrefix::Find(const std::string& client, std::span<const int32_t> prompt) const {
  std::vector<Digest> blocks = Blocks(client, prompt);
  const auto missing = std::ranges::find_if(blocks, [&](const Digest& block) { return !store_->Has(block); });
  blocks.erase(missing, blocks.end());
  return blocks;
}

bool DiskPrefix::Load(const Digest& block, Sequence* sequence) {
  const BlockRead read = store_->Read(block, read_);
  if (read == BlockRead::kBroken && !std::exchange(told_broken_, true) && notice_) {
    notice_(
        fmt::format("{}: a block of a cached prompt was torn or changed and has been removed; it is "
                    "computed anew (more are only counted)",
                    store_->folder()));
  }
  const bool loaded = read == BlockRead::kFound && engine_->LoadPages(sequence, read_).has_value();
  const std::lock_guard lock(mutex_);
  if (read == BlockRead::kBroken) ++stats_.broken;
  if (loaded) {
    stats_.hit_tokens += block_tokens_;
    stats_.read_bytes += block_bytes_;
  }
  return loaded;
}

void DiskPrefix::Save(const std::string& client, std::span<const int32_t> prompt, Sequence sequence) {
  std::vector<Digest> blocks = Blocks(client, prompt);
  if (blocks.empty()) return;
  MORAINE_CHECK(sequence.length() >= static_cast<int64_t>(blocks.size()) * block_tokens_);
  waiting_.push_back({std::move(blocks), std::move(sequence)});
  waiting_count_ = waiting_.size();
}

bool DiskPrefix::CanStep() const {
  if (waiting_.empty()) return false;
  const std::lock_guard lock(mutex_);
  return !free_.empty();
}

void DiskPrefix::Step() {
  if (waiting_.empty()) return;
  Waiting& first = waiting_.front();
  const auto needs_writing = [&](const Digest& block) {
    if (refused_ || store_->Has(block)) return false;
    const std::lock_guard lock(mutex_);
    return !under_way_.contains(block);
  };
  while (first.next < first.blocks.size() && !needs_writing(first.blocks[first.next])) ++first.next;
  if (first.next == first.blocks.size()) {
    // Those of a prompt's beginning are the last to go.
    std::ranges::reverse(first.blocks);
    Post({.blocks = std::move(first.blocks)});
    waiting_.pop_front();
    waiting_count_ = waiting_.size();
    return;
  }
  std::vector<std::byte>* content = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return;
    content = free_.back();
    free_.pop_back();
    under_way_.insert(first.blocks[first.next]);
  }
  const Status saved = engine_->SavePages(
      first.sequence, static_cast<int64_t>(first.next) * (block_tokens_ / engine_->options().page_tokens),
      *content);
  if (!saved.has_value()) {
    // The next step of the engine says why.
    refused_ = true;
    const std::lock_guard lock(mutex_);
    under_way_.erase(first.blocks[first.next]);
    free_.push_back(content);
    return;
  }
  Post({.content = content, .blocks = {first.blocks[first.next++]}});
}

bool DiskPrefix::DropOldest() {
  if (waiting_.empty()) return false;
  waiting_.pop_front();
  waiting_count_ = waiting_.size();
  return true;
}

bool DiskPrefix::idle() const {
  const std::lock_guard lock(mutex_);
  return waiting_count_ == 0 && jobs_.empty() && !writing_;
}

DiskPrefixStats DiskPrefix::stats() const {
  const std::lock_guard lock(mutex_);
  DiskPrefixStats stats = stats_;
  stats.removed = store_->removed();
  stats.bytes = store_->bytes();
  return stats;
}

void DiskPrefix::Post(Job job) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  posted_.notify_one();
}

void DiskPrefix::Write(const Job& job) {
  if (job.content == nullptr) {
    for (const Digest& block : job.blocks) store_->Touch(block);
    return;
  }
  const Status written = store_->Write(job.blocks.front(), *job.content);
  if (!written.has_value() && !refused_.exchange(true) && notice_) {
    notice_(written.error().message +
            "; no more prompts are written to the drive, what is there is still used");
  }
  const std::lock_guard lock(mutex_);
  if (written.has_value()) stats_.written_bytes += block_bytes_;
  under_way_.erase(job.blocks.front());
  free_.push_back(job.content);
}

void DiskPrefix::WriteJobs() {
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice);
  std::unique_lock lock(mutex_);
  while (true) {
    posted_.wait(lock, [this] { return ending_ || !jobs_.empty(); });
    if (ending_) return;
    const Job job = std::move(jobs_.front());
    jobs_.pop_front();
    writing_ = true;
    lock.unlock();
    Write(job);
    lock.lock();
    writing_ = false;
    if (on_room_) {
      lock.unlock();
      on_room_();
      lock.lock();
    }
  }
}

}  // namespace moraine
