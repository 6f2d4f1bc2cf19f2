#include "runtime/expert_cache.h"

#include <fmt/core.h>

#include <algorithm>
#include <deque>
#include <optional>
#include <utility>

#include "policies/layer_access.h"
#include "policies/slot_table.h"
#include "runtime/core/check.h"

namespace moraine {
namespace {

constexpr uint64_t kNoRead = UINT64_MAX;
constexpr int kSlotBits = 32;

enum class SlotState : uint8_t { kEmpty, kReading, kReady, kFailed };

SlotTableOptions TableOptions(const ExpertCacheOptions& o, const SlotClass& c, int32_t experts,
                              int32_t slots) {
  return {.layers = c.layers,
          .experts = experts,
          .slots = slots,
          .staging = std::min(o.staging, slots),
          .floor = o.floor,
          .second_touch = o.second_touch};
}

// Of uses counted over all MoE layers, those of the layers that share a class's slots, in its order of keys.
std::vector<float> ProfileOf(std::span<const float> all, std::span<const int32_t> class_of_layer, size_t c,
                             int32_t experts) {
  std::vector<float> uses;
  const auto row = static_cast<size_t>(experts);
  for (size_t l = 0; (l + 1) * row <= all.size(); ++l) {
    if (static_cast<size_t>(class_of_layer[l]) != c) continue;
    const auto layer = all.subspan(l * row, row);
    uses.insert(uses.end(), layer.begin(), layer.end());
  }
  // A class of MTP layers alone has none counted, which the policy takes for no profile.
  if (!all.empty() && uses.empty()) uses.push_back(0);
  return uses;
}

}  // namespace

struct ExpertCache::Slot {
  SlotState state = SlotState::kEmpty;
  int32_t key = -1;
  int64_t bytes = 0;            // of its expert as stored
  std::vector<uint64_t> reads;  // [node] of the streamer's, kNoRead: none held
  std::vector<ExpertSlice> slices;
  Error error;
  bool stuck = false;  // failed, and its drive may still write into it: pinned once more until it has
};

// The slots of one size.
struct ExpertCache::Pool {
  Pool(const SlotTableOptions& options, std::unique_ptr<Eviction> eviction, uint64_t number_in)
      : number(number_in),
        experts(options.experts),
        table(options, std::move(eviction)),
        access(&table),
        slots(static_cast<size_t>(options.slots)) {}

  LayerId LayerOf(int32_t key) const { return layers[static_cast<size_t>(key / experts)]; }
  ExpertId ExpertOf(int32_t key) const { return ExpertId{key % experts}; }
  Slot& At(SlotId slot) { return slots[static_cast<size_t>(slot.value)]; }
  std::byte* Base(const Slot& slot, size_t node) const {
    return memory[node].data() + (&slot - slots.data()) * node_bytes[node];
  }
  uint64_t NumberOf(const Slot& slot) const {
    return number << kSlotBits | static_cast<uint64_t>(&slot - slots.data());
  }

  uint64_t number;
  int32_t experts;
  std::vector<LayerId> layers;  // that use it; a key counts experts of these
  std::vector<int64_t> node_bytes;
  std::vector<NodeMemory> memory;  // [node]
  SlotTable table;
  LayerAccess access;
  std::vector<Slot> slots;
  int32_t failed = 0;  // slots whose reads failed and that are not free again
};

ExpertCache::ExpertCache(std::shared_ptr<const Checkpoint> checkpoint, ExpertLayout layout,
                         const ModelWeights& weights, const PrefetchOptions& prefetch)
    : checkpoint_(std::move(checkpoint)),
      layout_(std::move(layout)),
      weights_(weights),
      guess_width_(std::min(prefetch.width, checkpoint_->shape().top_k)),
      watchdog_(prefetch) {}

ExpertCache::~ExpertCache() = default;

Result<std::unique_ptr<ExpertCache>> ExpertCache::Open(std::shared_ptr<const Checkpoint> checkpoint,
                                                       ExpertLayout layout, const ModelWeights& weights,
                                                       const Topology& topology,
                                                       const ExpertCacheOptions& options) {
  const ModelShape& shape = checkpoint->shape();
  MORAINE_CHECK_EQ(options.slots.size(), layout.classes().size());
  std::unique_ptr<ExpertCache> cache(
      new ExpertCache(std::move(checkpoint), std::move(layout), weights, options.prefetch));
  const auto class_of_layer = cache->layout_.class_of_layer();
  const size_t counted = options.eviction.profile.size();
  if (counted != 0 && counted != static_cast<size_t>(shape.moe_layers() * shape.experts)) {
    return Fail(ErrorKind::kUsage,
                fmt::format("the profile counts {} experts; this model has {}: it is another model's trace",
                            counted, shape.moe_layers() * shape.experts));
  }
  StreamerOptions streamer = options.streamer;
  for (size_t c = 0; c < options.slots.size(); ++c) {
    const SlotClass& size = cache->layout_.classes()[c];
    const int32_t slots = std::min(options.slots[c], size.layers * shape.experts);
    EvictionOptions of_class = options.eviction;
    of_class.profile = ProfileOf(options.eviction.profile, class_of_layer, c, shape.experts);
    MORAINE_ASSIGN_OR_RETURN(std::unique_ptr<Eviction> eviction,
                             MakeEviction(of_class, size.layers * shape.experts));
    auto pool =
        std::make_unique<Pool>(TableOptions(options, size, shape.experts, slots), std::move(eviction), c);
    pool->node_bytes = size.node_bytes;
    for (size_t n = 0; n < size.node_bytes.size(); ++n) {
      const int64_t bytes = size.node_bytes[n] * slots;
      auto memory = topology.Allocate(bytes, NodeId{static_cast<int32_t>(n)});
      if (!memory.has_value()) return Fail(memory.error(), "slots for experts");
      if (bytes > 0) streamer.memory.emplace_back(memory->data(), static_cast<size_t>(bytes));
      pool->memory.push_back(std::move(memory).value());
    }
    for (Slot& slot : pool->slots) {
      slot.reads.assign(size.node_bytes.size(), kNoRead);
      slot.slices.resize(size.node_bytes.size());
    }
    cache->pools_.push_back(std::move(pool));
  }
  for (size_t l = 0; l < class_of_layer.size(); ++l) {
    cache->pools_[static_cast<size_t>(class_of_layer[l])]->layers.push_back(
        LayerId{shape.dense_layers + static_cast<int32_t>(l)});
  }
  cache->policy_ = options.eviction.policy;
  cache->ranges_.reserve(kMaxStreamRanges);
  cache->guesses_.reserve(static_cast<size_t>(std::max(options.staging, 1)) * cache->pools_.size());
  const auto shards = cache->checkpoint_->shards();
  MORAINE_ASSIGN_OR_RETURN(cache->streamer_, options.backend
                                                 ? Streamer::Open(shards, streamer, options.backend())
                                                 : Streamer::Open(shards, streamer));
  return cache;
}

int32_t ExpertCache::KeyOf(LayerId layer, ExpertId expert) const {
  const Pool& pool = PoolOf(layer);
  const auto at = std::find(pool.layers.begin(), pool.layers.end(), layer) - pool.layers.begin();
  return static_cast<int32_t>(at) * pool.experts + expert.value;
}

Residency ExpertCache::ResidencyOf(LayerId layer, ExpertId expert) const {
  Pool& pool = PoolOf(layer);
  const SlotId slot = pool.table.Find(KeyOf(layer, expert));
  if (slot.value < 0) return Residency::kNvme;
  return pool.At(slot).state == SlotState::kReady ? Residency::kRam : Residency::kInFlight;
}

ExpertCache::Pool& ExpertCache::PoolOf(LayerId layer) const {
  const auto l = static_cast<size_t>(layer.value - checkpoint_->shape().dense_layers);
  return *pools_[static_cast<size_t>(layout_.class_of_layer()[l])];
}

bool ExpertCache::HoldsAll() const {
  return std::all_of(pools_.begin(), pools_.end(),
                     [](const auto& pool) { return pool->table.slots() >= pool->table.keys(); });
}

void ExpertCache::StartRead(Pool& pool, int32_t key, SlotId id, ReadClass urgency) {
  Slot& slot = pool.At(id);
  MORAINE_CHECK(slot.state != SlotState::kReading && !slot.stuck);
  const LayerId layer = pool.LayerOf(key);
  const ExpertId expert = pool.ExpertOf(key);
  std::array<const std::byte*, 3> scales{};
  const auto matrices = layout_.Matrices(layer, expert);
  for (size_t m = 0; m < scales.size(); ++m) scales[m] = weights_.BlockScales(*matrices[m]);
  slot.state = SlotState::kReading;
  slot.key = key;
  slot.bytes = StoredExpertBytes(matrices);
  for (size_t n = 0; n < slot.reads.size(); ++n) {
    const NodeId node{static_cast<int32_t>(n)};
    std::byte* base = pool.Base(slot, n);
    slot.slices[n] = layout_.View(layer, expert, node, base, scales);
    ranges_.clear();
    layout_.Ranges(layer, expert, node, base, &ranges_);
    slot.reads[n] = ranges_.empty() ? kNoRead : streamer_->Read(ranges_, urgency).number();
  }
}

// The outcome of a slot's reads; blocks until it is known.
Status ExpertCache::Settle(Pool& pool, Slot& slot) {
  if (slot.state == SlotState::kFailed) return tl::unexpected(slot.error);
  if (slot.state == SlotState::kReady) return {};
  MORAINE_CHECK(slot.state == SlotState::kReading);
  const LayerId layer = pool.LayerOf(slot.key);
  const ExpertId expert = pool.ExpertOf(slot.key);
  std::optional<Error> error;
  for (uint64_t& read : slot.reads) {
    if (read == kNoRead) continue;
    Status status = streamer_->Wait(read);
    if (!status.has_value() && !error) error = std::move(status).error();
    if (!streamer_->Settled(read)) {
      slot.stuck = true;
      continue;
    }
    streamer_->Release(std::exchange(read, kNoRead));
  }
  if (error) {
    slot.error = {error->kind,
                  fmt::format("expert {} of layer {}: {}", expert.value, layer.value, error->message)};
    slot.state = SlotState::kFailed;
    ++pool.failed;
    if (slot.stuck) pool.table.Pin(slot.key);
    return tl::unexpected(slot.error);
  }
  for (size_t n = 0; n < slot.reads.size(); ++n)
    layout_.Finish(layer, expert, NodeId{static_cast<int32_t>(n)}, pool.Base(slot, n));
  slot.state = SlotState::kReady;
  stats_.nvme_bytes += slot.bytes;
  return {};
}

Status ExpertCache::Wait(uint64_t number) {
  Pool& pool = *pools_[number >> kSlotBits];
  return Settle(pool, pool.slots[number & UINT32_MAX]);
}

bool ExpertCache::Done(uint64_t number) {
  const Slot& slot = pools_[number >> kSlotBits]->slots[number & UINT32_MAX];
  return slot.state != SlotState::kReading ||
         std::all_of(slot.reads.begin(), slot.reads.end(),
                     [&](uint64_t read) { return read == kNoRead || streamer_->Done(read); });
}

Status ExpertCache::Fill(const LoadProgress& progress) {
  int64_t total = 0;
  for (const auto& pool : pools_) {
    const int64_t free = std::min(pool->table.slots(), pool->table.keys());
    total += free * StoredExpertBytes(layout_.Matrices(pool->layers.front(), ExpertId{0}));
  }
  int64_t done = 0;
  std::deque<std::pair<Pool*, Slot*>> under_way;
  std::optional<Error> error;
  const auto settle_oldest = [&] {
    const auto [pool, slot] = under_way.front();
    under_way.pop_front();
    const Status status = Settle(*pool, *slot);
    pool->table.Unpin(slot->key);
    if (!status.has_value()) {
      if (!error) error = status.error();
      return;
    }
    done += slot->bytes;
    if (progress && !error && !progress(done, total))
      error = Error{ErrorKind::kInterrupted, "loading was stopped"};
  };
  for (const auto& pool : pools_) {
    const int32_t count = std::min(pool->table.slots(), pool->table.keys());
    for (int32_t key = 0; key < count && !error; ++key) {
      if (pool->table.Find(key).value >= 0) continue;
      // A handful keeps the drive's queue full; more would only delay the word that something failed.
      constexpr size_t kMostUnderWay = 8;
      while (under_way.size() >= kMostUnderWay || streamer_->Room() < layout_.nodes()) settle_oldest();
      const auto placed = pool->table.Place(key);
      MORAINE_CHECK(placed && placed->evicted < 0);
      StartRead(*pool, key, placed->slot, ReadClass::kDemand);
      under_way.emplace_back(pool.get(), &pool->At(placed->slot));
    }
  }
  while (!under_way.empty()) settle_oldest();
  for (const auto& pool : pools_) ForgetFailed(*pool);
  if (error) return tl::unexpected(*error);
  return {};
}

void ExpertCache::BeginStep(int32_t rows) {
  for (const auto& pool : pools_) {
    ForgetFailed(*pool);
    pool->access.BeginStep(rows);
  }
}

void ExpertCache::BeginLayer(LayerId layer, const Routing& routing) {
  current_ = &PoolOf(layer);
  current_->access.BeginLayer(KeyOf(layer, ExpertId{0}) / current_->experts,
                              {routing.experts, static_cast<size_t>(int64_t{routing.rows} * routing.top_k)},
                              routing.top_k);
  EndGuesses(layer, routing);
}

void ExpertCache::SetPrefetch(const PrefetchOptions& prefetch) {
  guess_width_ = std::min(prefetch.width, checkpoint_->shape().top_k);
  watchdog_ = PrefetchWatchdog(prefetch);
}

bool ExpertCache::WantsGuess(LayerId layer) {
  const Pool& pool = PoolOf(layer);
  return pool.table.slots() < pool.table.keys() && watchdog_.Ask();
}

void ExpertCache::LookAhead(LayerId layer, std::span<const int32_t> experts) {
  Pool& pool = PoolOf(layer);
  const auto top_k = static_cast<size_t>(checkpoint_->shape().top_k);
  for (size_t i = 0; i < experts.size(); ++i) {
    if (i % top_k >= static_cast<size_t>(guess_width_)) continue;
    const int32_t key = KeyOf(layer, ExpertId{experts[i]});
    if (pool.table.Find(key).value >= 0) continue;
    if (guesses_.size() == guesses_.capacity() || streamer_->Room() < layout_.nodes()) return;
    const auto placed = pool.table.Place(key, true);
    if (!placed) return;
    StartRead(pool, key, placed->slot, ReadClass::kLookAhead);
    guesses_.push_back({&pool, key, false});
    ++stats_.guessed;
  }
}

// Guesses for `layer` that came true are the layer's own now; the others end as soon as their reads do.
void ExpertCache::EndGuesses(LayerId layer, const Routing& routing) {
  int32_t read = 0;
  int32_t used = 0;
  std::erase_if(guesses_, [&](Guess& guess) {
    Pool& pool = *guess.pool;
    Slot& slot = pool.At(pool.table.Find(guess.key));
    if (!guess.over && pool.LayerOf(guess.key) == layer) {
      ++read;
      const int32_t* end = routing.experts + int64_t{routing.rows} * routing.top_k;
      if (std::find(routing.experts, end, pool.ExpertOf(guess.key).value) != end) {
        ++used;
        pool.table.Unpin(guess.key);
        return true;
      }
      guess.over = true;
      DropReads(slot);
    }
    if (!guess.over || !Done(pool.NumberOf(slot))) return false;
    // One that was dropped or failed is simply not there.
    const bool there = Settle(pool, slot).has_value();
    pool.table.Unpin(guess.key);
    if (!there) ForgetFailed(pool);
    return true;
  });
  if (read > 0) watchdog_.Count(read, used);
  stats_.guessed_used += used;
}

// Frees a slot that holds a guess, waiting for its reads; false when there is none.
bool ExpertCache::EndOldestGuess() {
  if (guesses_.empty()) return false;
  const Guess guess = guesses_.front();
  guesses_.erase(guesses_.begin());
  Slot& slot = guess.pool->At(guess.pool->table.Find(guess.key));
  DropReads(slot);
  const bool there = Settle(*guess.pool, slot).has_value();
  guess.pool->table.Unpin(guess.key);
  if (!there) ForgetFailed(*guess.pool);
  return true;
}

void ExpertCache::DropReads(const Slot& slot) {
  if (slot.state != SlotState::kReading) return;
  for (const uint64_t read : slot.reads)
    if (read != kNoRead) streamer_->Drop(read);
}

Result<size_t> ExpertCache::Next(std::span<ExpertWork> work) {
  Pool& pool = *current_;
  if (work.empty()) return 0;
  std::span<const Access> batch = pool.access.Next();
  while (batch.empty() && EndOldestGuess()) batch = pool.access.Next();
  if (batch.empty()) {
    return Fail(ErrorKind::kIo, "every slot waits for a drive that does not answer; see the errors before");
  }
  const auto start = [&](const Access& access) {
    Slot& slot = pool.At(access.slot);
    if (slot.key != access.key || slot.state == SlotState::kEmpty) {
      StartRead(pool, access.key, access.slot, ReadClass::kDemand);
    } else if (slot.state == SlotState::kReading) {
      for (const uint64_t read : slot.reads)
        if (read != kNoRead) streamer_->Raise(read, ReadClass::kDemand);
    }
  };
  for (const Access& access : batch) start(access);
  for (const Access& access : pool.access.Ahead()) start(access);
  for (size_t i = 0; i < batch.size(); ++i) {
    const Slot& slot = pool.At(batch[i].slot);
    MORAINE_CHECK(pool.ExpertOf(batch[i].key) == work[i].expert);
    work[i].slices = slot.slices;
    work[i].ready = slot.state == SlotState::kReady ? Ticket() : Ticket(this, pool.NumberOf(slot));
    stats_.ram_bytes += slot.bytes;
  }
  return batch.size();
}

void ExpertCache::Release() { current_->access.Release(); }

void ExpertCache::Abandon() {
  for (const auto& pool : pools_) {
    for (const Slot& slot : pool->slots) DropReads(slot);
    for (Slot& slot : pool->slots) {
      // What failed says so again when it is asked for; here only its end counts.
      if (slot.state == SlotState::kReading) static_cast<void>(Settle(*pool, slot));
    }
    pool->access.Abandon();
  }
  for (const Guess& guess : guesses_) guess.pool->table.Unpin(guess.key);
  guesses_.clear();
  for (const auto& pool : pools_) ForgetFailed(*pool);
}

// Frees the slots of experts that could not be read, but for those a drive may still write into.
void ExpertCache::ForgetFailed(Pool& pool) {
  if (pool.failed == 0) return;
  for (Slot& slot : pool.slots) {
    if (slot.state != SlotState::kFailed) continue;
    for (uint64_t& read : slot.reads) {
      if (read != kNoRead && streamer_->Settled(read)) streamer_->Release(std::exchange(read, kNoRead));
    }
    if (std::any_of(slot.reads.begin(), slot.reads.end(), [](uint64_t read) { return read != kNoRead; }))
      continue;
    if (std::exchange(slot.stuck, false)) pool.table.Unpin(slot.key);
    pool.table.Forget(slot.key);
    slot.state = SlotState::kEmpty;
    slot.key = -1;
    --pool.failed;
  }
}

ExpertCacheStats ExpertCache::stats() const {
  ExpertCacheStats stats = stats_;
  for (const auto& pool : pools_) {
    const SlotCounters& counters = pool->table.counters();
    stats.hits += counters.hits;
    stats.misses += counters.misses;
    stats.promoted += counters.promoted;
  }
  stats.streamer = streamer_->stats();
  return stats;
}

std::string ExpertCache::Describe() const {
  int64_t slots = 0;
  int64_t experts = 0;
  for (const auto& pool : pools_) {
    slots += pool->table.slots();
    experts += pool->table.keys();
  }
  if (HoldsAll()) return fmt::format("{} experts, all in RAM", experts);
  return fmt::format("{} of {} experts in RAM ({}), the others by {}", slots, experts, policy_,
                     streamer_->Describe());
}

}  // namespace moraine
