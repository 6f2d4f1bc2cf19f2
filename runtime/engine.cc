#include "runtime/engine.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "cpu/cpu_backend.h"
#include "policies/attention_mode.h"
#include "runtime/core/check.h"
#include "runtime/core/printable.h"
#include "runtime/core/version.h"
#include "runtime/disk_cache/model_identity.h"
#include "runtime/engine_plan.h"
#include "runtime/expert_layout.h"
#include "runtime/kv_allocator.h"
#include "runtime/memory_limit.h"
#include "storage/checkpoint.h"

namespace moraine {
namespace {

ExpertCacheOptions CacheOptions(const ExpertOptions& o, const Plan& plan) {
  return {.slots = plan.slots,
          .staging = o.staging.value_or(plan.staging),
          .floor = o.floor.value_or(plan.floor),
          .second_touch = o.second_touch,
          .eviction = o.eviction,
          .prefetch = o.prefetch,
          .streamer = o.streamer,
          .backend = o.backend};
}

}  // namespace

Sequence::Sequence(Sequence&& other) noexcept
    : allocator_(other.allocator_),
      page_tokens_(other.page_tokens_),
      number_(other.number_),
      length_(std::exchange(other.length_, 0)),
      pages_(std::move(other.pages_)) {
  other.pages_.clear();
}

Sequence& Sequence::operator=(Sequence&& other) noexcept {
  if (this != &other) {
    Truncate(0);
    allocator_ = other.allocator_;
    page_tokens_ = other.page_tokens_;
    number_ = other.number_;
    length_ = std::exchange(other.length_, 0);
    pages_ = std::move(other.pages_);
    other.pages_.clear();
  }
  return *this;
}

Sequence::~Sequence() { Truncate(0); }

void Sequence::Truncate(int64_t length) {
  MORAINE_CHECK(length >= 0 && length <= length_);
  length_ = length;
  const auto keep = static_cast<size_t>((length + page_tokens_ - 1) / page_tokens_);
  while (pages_.size() > keep) {
    allocator_->Release(pages_.back());
    pages_.pop_back();
  }
}

// The next position lies in a page that holds positions already and has other owners.
bool Sequence::WritesIntoShared() const {
  return length_ % page_tokens_ != 0 &&
         allocator_->owners(pages_[static_cast<size_t>(length_ / page_tokens_)]) > 1;
}

int32_t Sequence::PagesToTake(int64_t length) const {
  const int64_t pages = (length + page_tokens_ - 1) / page_tokens_;
  return static_cast<int32_t>(std::max<int64_t>(pages - static_cast<int64_t>(pages_.size()), 0)) +
         (WritesIntoShared() ? 1 : 0);
}

// Pages of its own for positions up to `length`; the length itself moves only once a step has succeeded.
Status Sequence::Grow(int64_t length, Dense* dense) {
  if (WritesIntoShared()) {
    PageId& shared = pages_[static_cast<size_t>(length_ / page_tokens_)];
    MORAINE_ASSIGN_OR_RETURN(const PageId own, allocator_->Take());
    if (Status copied = dense->CopyPage(shared, own); !copied.has_value()) {
      allocator_->Release(own);
      return copied;
    }
    allocator_->Release(shared);
    shared = own;
  }
  while (static_cast<int64_t>(pages_.size()) * page_tokens_ < length) {
    MORAINE_ASSIGN_OR_RETURN(const PageId page, allocator_->Take());
    pages_.push_back(page);
  }
  return {};
}

struct Engine::State {
  State(EngineOptions options_in, std::shared_ptr<const Checkpoint> checkpoint_in, Plan plan_in,
        std::unique_ptr<CpuBackend> cpu_in, std::unique_ptr<ModelWeights> weights_in,
        std::unique_ptr<ExpertCache> cache_in, std::unique_ptr<Dense> dense_in, int64_t context_in,
        std::unique_ptr<StepTrace> trace_in, int32_t pages, std::span<const WeightFormat> expert_formats)
      : options(std::move(options_in)),
        checkpoint(std::move(checkpoint_in)),
        shape(checkpoint->shape()),
        plan(std::move(plan_in)),
        work(WorkOf(*checkpoint, options.kv_type)),
        cpu(std::move(cpu_in)),
        weights(std::move(weights_in)),
        cache(std::move(cache_in)),
        dense(std::move(dense_in)),
        experts(cpu->MakeExperts(shape, options.prefill_chunk, expert_formats)),
        grouping(shape.experts, shape.top_k, options.prefill_chunk),
        trace(std::move(trace_in)),
        parts{shape,      *dense, *experts, *cache, grouping, options.observer, options.override_route,
              trace.get()},
        context(context_in),
        allocator(pages),
        embedded(static_cast<size_t>(options.prefill_chunk * shape.hidden)) {
    last_rows.reserve(static_cast<size_t>(options.prefill_chunk));
    sequence_rows.reserve(static_cast<size_t>(options.prefill_chunk));
  }

  auto Head(std::span<const int32_t> rows) {
    StepClock clock;
    auto made = dense->Head(rows);
    clock.Lap(&parts.seconds.dense);
    return made;
  }

  EngineOptions options;
  std::shared_ptr<const Checkpoint> checkpoint;
  const ModelShape& shape;
  Plan plan;
  ModelWork work;
  std::unique_ptr<CpuBackend> cpu;
  std::unique_ptr<ModelWeights> weights;
  std::unique_ptr<ExpertCache> cache;
  std::unique_ptr<Dense> dense;
  std::unique_ptr<Experts> experts;
  ExpertGrouping grouping;
  std::unique_ptr<StepTrace> trace;  // null without
  StepParts parts;
  int64_t context;
  KvAllocator allocator;
  EngineStats stats;
  int64_t filled_bytes = cache->stats().nvme_bytes;  // by Open, not by steps
  std::vector<float> embedded;                       // [T, H]
  std::vector<SequenceRows> sequence_rows;
  std::vector<int32_t> sequence_numbers;
  int32_t next_sequence = 0;
  std::vector<int32_t> last_rows;
  std::vector<float> logits;  // of a step's last rows, when there are more than one Head holds
};

Engine::Engine(std::unique_ptr<State> state) : state_(std::move(state)) {}
Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::Open(const std::string& folder, const EngineOptions& options) {
  MORAINE_ASSIGN_OR_RETURN(Checkpoint opened, Checkpoint::Open(folder, {.mtp = options.mtp}));
  auto checkpoint = std::make_shared<const Checkpoint>(std::move(opened));
  const ModelShape& shape = checkpoint->shape();
  if (shape.sparse) {
    return Fail(
        ErrorKind::kModel,
        fmt::format("{}: moraine synth --sparse wrote it: its weights are holes in the files and read as "
                    "zero, so there is nothing to run; moraine inspect works",
                    Printable(folder)));
  }
  MORAINE_ASSIGN_OR_RETURN(std::unique_ptr<CpuBackend> cpu,
                           CpuBackend::Create({.topology = options.topology,
                                               .threads = options.threads,
                                               .isa = options.isa,
                                               .f32_activations = options.f32_activations,
                                               .switch_over = options.switch_over}));
  ExpertLayout layout(*checkpoint, cpu->node_workers());
  MORAINE_ASSIGN_OR_RETURN(MemoryLimit ram, RamLimit(options));
  auto planned = PlanEngine(*checkpoint, layout, *cpu, options, std::move(ram));
  if (!planned.has_value()) return Fail(planned.error(), Printable(folder));
  Plan& plan = planned->plan;
  MORAINE_ASSIGN_OR_RETURN(std::unique_ptr<ModelWeights> weights,
                           ModelWeights::Load(checkpoint, cpu->topology(), options.progress));
  MORAINE_ASSIGN_OR_RETURN(std::unique_ptr<ExpertCache> cache,
                           ExpertCache::Open(checkpoint, std::move(layout), *weights, cpu->topology(),
                                             CacheOptions(options.experts, plan)));
  // What does not fit is read when it is wanted: the first token need not wait for the rest.
  if (plan.holds_all) MORAINE_RETURN_IF_ERROR(cache->Fill(options.progress));
  MORAINE_ASSIGN_OR_RETURN(std::unique_ptr<Dense> dense,
                           cpu->MakeDense(shape, weights->dense(), planned->dense));
  std::unique_ptr<StepTrace> trace;
  if (!options.trace.empty()) {
    MORAINE_ASSIGN_OR_RETURN(trace, StepTrace::Create(options.trace, *checkpoint, options.prefill_chunk));
  }
  return std::unique_ptr<Engine>(new Engine(std::make_unique<State>(
      options, std::move(checkpoint), std::move(plan), std::move(cpu), std::move(weights), std::move(cache),
      std::move(dense), planned->context, std::move(trace), planned->dense.pages, planned->expert_formats)));
}

const ModelShape& Engine::shape() const { return state_->shape; }
const GenerationDefaults& Engine::generation() const { return state_->checkpoint->generation(); }
int64_t Engine::context() const { return state_->context; }
const EngineOptions& Engine::options() const { return state_->options; }
const Plan& Engine::plan() const { return state_->plan; }
const ModelWork& Engine::work() const { return state_->work; }

EngineStats Engine::stats() const {
  EngineStats stats = state_->stats;
  const ExpertCacheStats experts = state_->cache->stats();
  stats.ram_bytes += experts.ram_bytes;
  stats.nvme_bytes += experts.nvme_bytes - state_->filled_bytes;
  stats.expert_hits = experts.hits;
  stats.expert_misses = experts.misses;
  stats.guesses = experts.guessed;
  stats.guesses_used = experts.guessed_used;
  stats.read_retries = experts.streamer.retries;
  stats.seconds = state_->parts.seconds;
  return stats;
}

std::vector<std::string> Engine::Notices() const {
  std::vector<std::string> notices = state_->plan.warnings;
  for (std::string& notice : state_->cache->streamer().Notices()) notices.push_back(std::move(notice));
  if (state_->trace != nullptr) {
    if (std::string stopped = state_->trace->Notice(); !stopped.empty())
      notices.push_back(std::move(stopped));
  }
  return notices;
}

std::string Engine::Describe() const {
  return fmt::format("{} thread{}, kernels {}, KV {} for {} positions; {}", state_->cpu->threads(),
                     state_->cpu->threads() == 1 ? "" : "s", state_->cpu->KernelNames(),
                     Name(state_->options.kv_type), state_->context, state_->cache->Describe());
}

GemmReport Engine::PrefillReport() const { return state_->cpu->PrefillReport(); }

void Engine::SetPrefetch(const PrefetchOptions& prefetch) { state_->cache->SetPrefetch(prefetch); }

Sequence Engine::NewSequence() {
  return Sequence(&state_->allocator, state_->options.page_tokens, state_->next_sequence++);
}

Sequence Engine::Fork(const Sequence& from, int64_t length) {
  MORAINE_CHECK(length >= 0 && length <= from.length_);
  Sequence fork = NewSequence();
  const auto pages = static_cast<size_t>((length + fork.page_tokens_ - 1) / fork.page_tokens_);
  fork.pages_.assign(from.pages_.begin(), from.pages_.begin() + static_cast<std::ptrdiff_t>(pages));
  for (const PageId page : fork.pages_) state_->allocator.Share(page);
  fork.length_ = length;
  return fork;
}

int32_t Engine::free_pages() const { return state_->allocator.free_pages(); }

int32_t Engine::PagesFor(const Sequence& sequence, int64_t tokens) const {
  return sequence.PagesToTake(sequence.length_ + tokens);
}

Result<Digest> Engine::KvIdentity() const {
  const EngineOptions& o = state_->options;
  MORAINE_ASSIGN_OR_RETURN(const Digest model, ModelIdentity(*state_->checkpoint));
  return Sha256()
      .AddField(Version())
      .AddField(model)
      .AddField(state_->cpu->KernelNames())
      .AddField(o.isa)
      .AddField(int64_t{o.f32_activations})
      .AddField(int64_t{o.switch_over})
      .AddField(Name(o.kv_type))
      .AddField(int64_t{o.page_tokens})
      .AddField(page_bytes())
      .Finish();
}

int64_t Engine::page_bytes() const { return state_->dense->page_bytes(); }

Status Engine::SavePages(const Sequence& sequence, int64_t first, std::span<std::byte> out) {
  const auto bytes = static_cast<size_t>(page_bytes());
  MORAINE_CHECK_EQ(out.size() % bytes, 0u);
  const size_t count = out.size() / bytes;
  MORAINE_CHECK((first + static_cast<int64_t>(count)) * sequence.page_tokens_ <= sequence.length_);
  for (size_t i = 0; i < count; ++i) {
    const PageId page = sequence.pages_[static_cast<size_t>(first) + i];
    MORAINE_RETURN_IF_ERROR(state_->dense->SavePage(page, out.subspan(i * bytes, bytes)));
  }
  return {};
}

Status Engine::LoadPages(Sequence* sequence, std::span<const std::byte> in) {
  const auto bytes = static_cast<size_t>(page_bytes());
  MORAINE_CHECK_EQ(in.size() % bytes, 0u);
  MORAINE_CHECK_EQ(sequence->length_ % sequence->page_tokens_, 0);
  const auto first = static_cast<size_t>(sequence->length_ / sequence->page_tokens_);
  const size_t count = in.size() / bytes;
  const int64_t length = sequence->length_ + static_cast<int64_t>(count) * sequence->page_tokens_;
  MORAINE_RETURN_IF_ERROR(sequence->Grow(length, state_->dense.get()));
  for (size_t i = 0; i < count; ++i) {
    MORAINE_RETURN_IF_ERROR(
        state_->dense->LoadPage(sequence->pages_[first + i], in.subspan(i * bytes, bytes)));
  }
  sequence->length_ = length;
  return {};
}

// Checks the inputs, embeds them and walks them through the layers; lengths move when all of it has
// succeeded.
Status Engine::Run(std::span<const StepInput> inputs) {
  State& s = *state_;
  s.sequence_rows.clear();
  s.sequence_numbers.clear();
  int32_t row = 0;
  for (const StepInput& input : inputs) {
    const auto count = static_cast<int32_t>(input.tokens.size());
    const int64_t length = input.sequence->length_ + count;
    MORAINE_CHECK(count > 0 && row + count <= s.options.prefill_chunk);
    if (length > s.context) {
      return Fail(ErrorKind::kUsage,
                  fmt::format("the context is full: {} tokens of {}; raise --ctx (this model allows {})",
                              length, s.context, s.shape.context));
    }
    for (const int32_t token : input.tokens) {
      if (token >= 0 && token < s.shape.vocab) continue;
      return Fail(ErrorKind::kUsage,
                  fmt::format("token id {} is outside the vocabulary of {}", token, s.shape.vocab));
    }
    MORAINE_RETURN_IF_ERROR(input.sequence->Grow(length, s.dense.get()));
    MORAINE_RETURN_IF_ERROR(
        s.weights->Embed(input.tokens, std::span(s.embedded)
                                           .subspan(static_cast<size_t>(row * s.shape.hidden),
                                                    static_cast<size_t>(count * s.shape.hidden))));
    s.sequence_rows.push_back({.first_row = row,
                               .rows = count,
                               .first_position = input.sequence->length_,
                               .pages = input.sequence->pages_,
                               .mode = ChooseAttentionMode(s.shape, count, length)});
    s.sequence_numbers.push_back(input.sequence->number_);
    row += count;
  }
  if (s.trace != nullptr) s.trace->BeginStep(s.stats.steps, s.sequence_rows, s.sequence_numbers);
  Status walked = DecodeStep(s.parts, s.sequence_rows,
                             std::span(s.embedded).first(static_cast<size_t>(row * s.shape.hidden)));
  if (!walked.has_value()) {
    s.cache->Abandon();
    return walked;
  }
  for (const StepInput& input : inputs) input.sequence->length_ += static_cast<int64_t>(input.tokens.size());
  s.stats.rows += row;
  s.stats.steps += 1;
  s.stats.ram_bytes += s.weights->dense_bytes_per_row();
  s.stats.nvme_bytes += row * s.weights->embedding_row_bytes();
  return {};
}

Result<std::span<const float>> Engine::Step(std::span<const StepInput> inputs) {
  State& s = *state_;
  MORAINE_RETURN_IF_ERROR(Run(inputs));
  s.last_rows.clear();
  for (const SequenceRows& rows : s.sequence_rows) s.last_rows.push_back(rows.first_row + rows.rows - 1);
  const size_t batch = static_cast<size_t>(std::min(kLogitRows, s.options.prefill_chunk));
  if (s.last_rows.size() <= batch) return s.Head(s.last_rows);
  const auto vocab = static_cast<size_t>(s.shape.vocab);
  s.logits.resize(s.last_rows.size() * vocab);
  for (size_t first = 0; first < s.last_rows.size(); first += batch) {
    const auto rows = std::span(s.last_rows).subspan(first, std::min(batch, s.last_rows.size() - first));
    MORAINE_ASSIGN_OR_RETURN(const std::span<const float> part, s.Head(rows));
    std::copy(part.begin(), part.end(), s.logits.begin() + static_cast<std::ptrdiff_t>(first * vocab));
  }
  return std::span<const float>(s.logits);
}

Status Engine::Extend(Sequence* sequence, std::span<const int32_t> tokens) {
  const StepInput input{sequence, tokens};
  return Run({&input, 1});
}

Result<std::span<const float>> Engine::Prefill(Sequence* sequence, std::span<const int32_t> tokens,
                                               const Stop& stop) {
  MORAINE_CHECK(!tokens.empty());
  const auto chunk = static_cast<size_t>(state_->options.prefill_chunk);
  size_t done = 0;
  for (; tokens.size() - done > chunk; done += chunk) {
    if (stop && stop(static_cast<int64_t>(done)))
      return Fail(ErrorKind::kInterrupted, "stopped during the prompt");
    MORAINE_RETURN_IF_ERROR(Extend(sequence, tokens.subspan(done, chunk)));
  }
  const StepInput input{sequence, tokens.subspan(done)};
  return Step({&input, 1});
}

Status Engine::Score(Sequence* sequence, std::span<const int32_t> tokens, const LogitSink& sink) {
  const auto chunk = static_cast<size_t>(state_->options.prefill_chunk);
  const int32_t batch = std::min(kLogitRows, state_->options.prefill_chunk);
  for (size_t done = 0; done < tokens.size(); done += chunk) {
    const StepInput input{sequence, tokens.subspan(done, std::min(chunk, tokens.size() - done))};
    MORAINE_RETURN_IF_ERROR(Run({&input, 1}));
    const auto rows = static_cast<int32_t>(input.tokens.size());
    for (int32_t first = 0; first < rows; first += batch) {
      std::vector<int32_t> wanted;
      for (int32_t row = first; row < std::min(first + batch, rows); ++row) wanted.push_back(row);
      MORAINE_ASSIGN_OR_RETURN(const std::span<const float> logits, state_->Head(wanted));
      MORAINE_RETURN_IF_ERROR(sink(static_cast<int64_t>(done) + first, logits));
    }
  }
  return {};
}

}  // namespace moraine
