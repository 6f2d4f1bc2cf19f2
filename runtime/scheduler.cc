#include "runtime/scheduler.h"

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "runtime/allowed_logits.h"
#include "runtime/client_turns.h"
#include "runtime/core/check.h"
#include "runtime/disk_cache/disk_prefix.h"
#include "runtime/prefix_cache.h"

namespace moraine {
namespace {

using Clock = std::chrono::steady_clock;

// Of prompts that wait, in all: 8 MiB.
constexpr int64_t kMostWaitingTokens = int64_t{2} << 20;

double Since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

Status CheckIds(const std::vector<int32_t>& ids, const char* what, int64_t vocab) {
  for (const int32_t id : ids) {
    if (id >= 0 && id < vocab) continue;
    return Fail(ErrorKind::kUsage, fmt::format("{} {} is outside the vocabulary of {}", what, id, vocab));
  }
  return {};
}

Status CheckRequest(const GenerationRequest& r, const Engine& engine) {
  MORAINE_RETURN_IF_ERROR(CheckPrompt(engine, 0, static_cast<int64_t>(r.prompt.size())));
  if (r.max_tokens < 0 || r.min_tokens < 0 || r.top_logprobs < -1) {
    return Fail(ErrorKind::kUsage,
                fmt::format("max_tokens is {}, min_tokens {}, top_logprobs {}; expected 0, 0, -1 or above",
                            r.max_tokens, r.min_tokens, r.top_logprobs));
  }
  MORAINE_RETURN_IF_ERROR(CheckIds(r.prompt, "token id", engine.shape().vocab));
  MORAINE_RETURN_IF_ERROR(CheckIds(r.stop_tokens, "stop token", engine.shape().vocab));
  MORAINE_RETURN_IF_ERROR(CheckBias(r.logit_bias, engine.shape().vocab));
  return CheckSampling(r.sampling);
}

struct Request {
  Request(RequestId id_in, GenerationRequest want_in, std::shared_ptr<GenerationSink> sink_in)
      : id(id_in),
        want(std::move(want_in)),
        sink(std::move(sink_in)),
        tokens(std::move(want.prompt)),
        prompt(static_cast<int64_t>(tokens.size())),
        sampler(want.sampling) {
    usage.prompt_tokens = prompt;
  }

  const RequestId id;
  GenerationRequest want;  // its prompt has moved
  const std::shared_ptr<GenerationSink> sink;
  std::atomic<bool> cancelled = false;

  // The rest is the scheduler's thread's.
  std::vector<int32_t> tokens;  // the prompt's, then what was chosen
  const int64_t prompt;         // how many of them are the prompt's
  Sampler sampler;
  std::optional<Sequence> sequence;  // while it runs; all tokens but the last once the prompt is done
  GenerationUsage usage;
  Clock::time_point since = Clock::now();  // of waiting, prefill or decode
  int64_t served = 0;                      // turn of its last chunk
  std::vector<Digest> on_drive;            // the prompt's blocks that can be read
  bool started = false;
  bool ended = false;

  int64_t done() const { return sequence ? sequence->length() : 0; }
  bool InPrompt() const { return done() < prompt; }
  void EndPhase(double* seconds) {
    *seconds += Since(since);
    since = Clock::now();
  }
};

using RequestPointer = std::shared_ptr<Request>;

}  // namespace

class Scheduler::Loop {
 public:
  Loop(std::unique_ptr<Engine> engine, const SchedulerOptions& options)
      : engine_(std::move(engine)),
        running_limit_(std::clamp(options.running, 1, engine_->options().sequences)),
        chunk_(options.chunk > 0 ? std::min(options.chunk, engine_->options().prefill_chunk)
                                 : engine_->options().prefill_chunk),
        queue_limit_(std::max(options.queue, 0)) {}

  ~Loop() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
      CancelAll();
    }
    changed_.notify_all();
    if (thread_.joinable()) thread_.join();
  }

  Status Begin(const DiskPrefixOptions& disk);

  Result<RequestId> Submit(GenerationRequest want, std::shared_ptr<GenerationSink> sink);
  void Cancel(RequestId id);
  Status Health() const;
  SchedulerStats stats() const;
  void Drain(std::chrono::milliseconds grace);
  void Change(const SchedulerChanges& changes);
  void Poke();
  uint64_t Turns() const { return turns_done_; }
  const Engine& engine() const { return *engine_; }

 private:
  void Run();
  void CancelAll();
  void EndWhatIsOver();
  void StartWaiting();
  bool MakePlace();
  void Start(Request& request);
  void Decode();
  void DecodeAlone(std::span<const RequestPointer> batch);
  RequestPointer NextInPrompt() const;
  void PrefillOne();
  void LoadBlock(Request& request);
  Status Score(Request& request, std::span<const int32_t> chunk);
  void Choose(const RequestPointer& request, std::span<const float> logits);
  std::span<const float> Allowed(const Request& request, std::span<const float> logits);
  void TakePages(const Request& request, int64_t tokens);
  bool GivePagesBack();
  void Keep(Request& request);
  void End(const RequestPointer& request, Result<FinishReason> outcome);
  void EndWithError(const RequestPointer& request, const Error& error);
  void Publish();
  void ApplyChanges();
  void CountPrompt(int64_t rows, Clock::time_point begin);
  void CountDecode(size_t rows, Clock::time_point begin, const EngineStats& before);

  const std::unique_ptr<Engine> engine_;
  const int32_t running_limit_;
  const int32_t chunk_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  // Under the mutex.
  std::map<RequestId, RequestPointer> requests_;  // until OnDone has returned
  ClientTurns<RequestPointer> turns_;
  int32_t queue_limit_;
  std::optional<PrefetchOptions> prefetch_;  // to be set before the next step
  bool poked_ = false;
  int64_t waiting_tokens_ = 0;
  RequestId next_id_ = 1;
  bool draining_ = false;
  bool stop_ = false;
  std::optional<Error> dead_;
  SchedulerStats stats_;

  std::atomic<uint64_t> turns_done_{0};

  // The thread's own.
  PrefixCache kept_;
  std::unique_ptr<DiskPrefix> disk_;     // null: none; set before the thread begins
  std::vector<RequestPointer> running_;  // in the order they started
  std::vector<float> last_logits_;       // [V] of a scored prompt
  std::vector<float> masked_;            // [V], of what a request allows
  int64_t chunks_ = 0;

  std::thread thread_;
};

Result<RequestId> Scheduler::Loop::Submit(GenerationRequest want, std::shared_ptr<GenerationSink> sink) {
  MORAINE_CHECK(sink != nullptr);
  const Status fit = CheckRequest(want, *engine_);
  const std::lock_guard lock(mutex_);
  const auto refuse = [&](Error error) {
    ++stats_.refused;
    return tl::unexpected(std::move(error));
  };
  if (dead_) return refuse(*dead_);
  if (!fit.has_value()) return refuse(fit.error());
  if (draining_ || stop_) return refuse({ErrorKind::kBusy, "shutting down: no new requests are taken"});
  const auto most = static_cast<size_t>(running_limit_) + static_cast<size_t>(queue_limit_);
  if (requests_.size() >= most) {
    return refuse(
        {ErrorKind::kBusy, fmt::format("{} requests run and {} may wait, and that many do; try again later",
                                       running_limit_, queue_limit_)});
  }
  const auto tokens = static_cast<int64_t>(want.prompt.size());
  if (waiting_tokens_ > 0 && waiting_tokens_ + tokens > kMostWaitingTokens) {
    return refuse({ErrorKind::kBusy,
                   fmt::format("prompts of {} tokens wait and this one has {}: together more than {}; try "
                               "again later",
                               waiting_tokens_, tokens, kMostWaitingTokens)});
  }
  const RequestId id = next_id_++;
  auto request = std::make_shared<Request>(id, std::move(want), std::move(sink));
  turns_.Push(request->want.client, request);
  waiting_tokens_ += tokens;
  requests_.emplace(id, std::move(request));
  changed_.notify_all();
  return id;
}

void Scheduler::Loop::Cancel(RequestId id) {
  const std::lock_guard lock(mutex_);
  if (const auto at = requests_.find(id); at != requests_.end()) at->second->cancelled = true;
}

Status Scheduler::Loop::Health() const {
  const std::lock_guard lock(mutex_);
  if (dead_) return tl::unexpected(*dead_);
  return {};
}

SchedulerStats Scheduler::Loop::stats() const {
  const std::lock_guard lock(mutex_);
  SchedulerStats stats = stats_;
  stats.on_disk = disk_ != nullptr;
  if (disk_ != nullptr) stats.disk = disk_->stats();
  stats.waiting = turns_.waiting();
  return stats;
}

void Scheduler::Loop::CancelAll() {
  for (const auto& [id, request] : requests_) request->cancelled = true;
}

void Scheduler::Loop::Drain(std::chrono::milliseconds grace) {
  MORAINE_CHECK(std::this_thread::get_id() != thread_.get_id());
  std::unique_lock lock(mutex_);
  draining_ = true;
  const auto idle = [this] { return requests_.empty(); };
  const auto written = [&] { return idle() && (disk_ == nullptr || disk_->idle()); };
  if (grace.count() > 0 && changed_.wait_for(lock, grace, written)) return;
  CancelAll();
  changed_.wait(lock, idle);
}

void Scheduler::Loop::Run() {
  while (true) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] {
        return stop_ || poked_ || !requests_.empty() || (disk_ != nullptr && disk_->CanStep());
      });
      if (stop_ && requests_.empty()) return;
      poked_ = false;
    }
    ++turns_done_;
    ApplyChanges();
    EndWhatIsOver();
    StartWaiting();
    Decode();
    PrefillOne();
    if (disk_ != nullptr) disk_->Step();
  }
}

void Scheduler::Loop::Change(const SchedulerChanges& changes) {
  {
    const std::lock_guard lock(mutex_);
    if (changes.queue) queue_limit_ = std::max(*changes.queue, 0);
    if (changes.prefetch) prefetch_ = changes.prefetch;
  }
  if (changes.retry_disk && disk_ != nullptr) disk_->Retry();
}

void Scheduler::Loop::Poke() {
  {
    const std::lock_guard lock(mutex_);
    poked_ = true;
  }
  changed_.notify_all();
}

void Scheduler::Loop::ApplyChanges() {
  std::optional<PrefetchOptions> prefetch;
  {
    const std::lock_guard lock(mutex_);
    prefetch = std::exchange(prefetch_, std::nullopt);
  }
  if (prefetch) engine_->SetPrefetch(*prefetch);
}

void Scheduler::Loop::CountPrompt(int64_t rows, Clock::time_point begin) {
  const double seconds = Since(begin);
  const std::lock_guard lock(mutex_);
  stats_.speed.prompt_rows += rows;
  stats_.speed.prompt_seconds += seconds;
}

void Scheduler::Loop::CountDecode(size_t rows, Clock::time_point begin, const EngineStats& before) {
  const double seconds = Since(begin);
  const EngineStats after = engine_->stats();
  const std::lock_guard lock(mutex_);
  SchedulerSpeed& speed = stats_.speed;
  speed.decode_rows += static_cast<int64_t>(rows);
  speed.decode_seconds += seconds;
  if (rows == 1) {
    ++speed.alone_rows;
    speed.alone_seconds += seconds;
  }
  speed.decode_hits += after.expert_hits - before.expert_hits;
  speed.decode_misses += after.expert_misses - before.expert_misses;
  speed.decode_nvme_bytes += after.nvme_bytes - before.nvme_bytes;
}

// Who was cancelled or is too late, waiting or running.
void Scheduler::Loop::EndWhatIsOver() {
  std::vector<RequestPointer> over;
  const Clock::time_point now = Clock::now();
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, request] : requests_) {
      if (request->cancelled || (request->want.deadline && now >= *request->want.deadline))
        over.push_back(request);
    }
  }
  for (const RequestPointer& request : over) {
    if (request->cancelled) {
      End(request, FinishReason::kInterrupted);
    } else {
      const GenerationUsage& usage = request->usage;
      EndWithError(request,
                   {ErrorKind::kInterrupted,
                    fmt::format("the deadline passed after {} of the prompt's {} tokens and {} of the "
                                "answer; allow more time or fewer tokens",
                                std::min(request->done(), request->prompt), request->prompt,
                                usage.completion_tokens)});
    }
  }
}

void Scheduler::Loop::StartWaiting() {
  while (true) {
    RequestPointer request;
    {
      const std::lock_guard lock(mutex_);
      if (turns_.waiting() == 0) return;
      if (static_cast<int32_t>(running_.size()) >= running_limit_ && !MakePlace()) return;
      request = turns_.Start();
      waiting_tokens_ -= request->prompt;
    }
    Start(*request);
    running_.push_back(std::move(request));
    const std::lock_guard lock(mutex_);
    stats_.running = static_cast<int64_t>(running_.size());
  }
}

// Where a client waits that runs nothing: a prompt of the one that runs most waits again, the newest. What of
// it is done is kept as any prefix is. Under the mutex.
bool Scheduler::Loop::MakePlace() {
  if (!turns_.OneHasNothing()) return false;
  auto victim = running_.end();
  int64_t most = 1;
  for (auto at = running_.begin(); at != running_.end(); ++at) {
    const int64_t runs = turns_.Running((*at)->want.client);
    // What was told of a prompt's tokens would be told again.
    if (runs < std::max<int64_t>(most, 2) || !(*at)->InPrompt() || (*at)->want.prompt_logprobs) continue;
    victim = at;
    most = runs;
  }
  if (victim == running_.end()) return false;
  const RequestPointer request = *victim;
  running_.erase(victim);
  Keep(*request);
  request->EndPhase(&request->usage.prefill_seconds);
  waiting_tokens_ += request->prompt;
  turns_.PutBack(request->want.client, request);
  return true;
}

// Gives it a sequence: a fresh one, or one that begins with what is kept. Where the drive has more than
// memory, it begins at a block's begin. One token at least is left to compute.
void Scheduler::Loop::Start(Request& request) {
  request.EndPhase(&request.usage.queue_seconds);
  const auto prompt = std::span(std::as_const(request.tokens)).first(request.tokens.size() - 1);
  std::optional<PrefixCache::Match> match;
  request.on_drive.clear();
  if (!request.want.prompt_logprobs) {
    match = kept_.Find(request.want.client, prompt, engine_->options().page_tokens);
    if (disk_ != nullptr && request.want.on_disk) request.on_drive = disk_->Find(request.want.client, prompt);
  }
  int64_t length = match ? match->length : 0;
  if (!request.on_drive.empty()) {
    const int64_t block = disk_->block_tokens();
    if (static_cast<int64_t>(request.on_drive.size()) * block > length) length = length / block * block;
  }
  request.sequence = length > 0 ? engine_->Fork(*match->sequence, length) : engine_->NewSequence();
  if (std::exchange(request.started, true)) return;
  request.sampler.Accept(request.tokens);
  request.usage.cached_tokens = request.done();
  const std::lock_guard lock(mutex_);
  stats_.cached_tokens += request.done();
}

// What is kept makes room, oldest first, then what waits to be written.
bool Scheduler::Loop::GivePagesBack() {
  return kept_.DropOldest() || (disk_ != nullptr && disk_->DropOldest());
}

// Pages for the next step.
void Scheduler::Loop::TakePages(const Request& request, int64_t tokens) {
  // A step fails with the numbers if there are still too few.
  while (engine_->free_pages() < engine_->PagesFor(*request.sequence, tokens) && GivePagesBack()) {
  }
}

// One step for all that are past their prompt.
void Scheduler::Loop::Decode() {
  const auto most = static_cast<size_t>(engine_->options().prefill_chunk);
  std::vector<RequestPointer> decoding;
  for (const RequestPointer& request : running_) {
    if (!request->InPrompt()) decoding.push_back(request);
  }
  for (size_t first = 0; first < decoding.size(); first += most) {
    const auto batch = std::span(decoding).subspan(first, std::min(most, decoding.size() - first));
    if (batch.front()->ended) return;  // the device was lost in the step before
    std::vector<StepInput> inputs;
    int64_t pages = 0;
    for (const RequestPointer& request : batch) {
      pages += engine_->PagesFor(*request->sequence, 1);
      inputs.push_back({&*request->sequence, {&request->tokens.back(), 1}});
    }
    while (engine_->free_pages() < pages && GivePagesBack()) {
    }
    const Clock::time_point begin = Clock::now();
    const EngineStats before = engine_->stats();
    const auto logits = engine_->Step(inputs);
    if (logits.has_value()) CountDecode(batch.size(), begin, before);
    Publish();
    if (!logits.has_value()) {
      const bool alone = batch.size() == 1 || logits.error().kind == ErrorKind::kDeviceLost;
      alone ? EndWithError(batch.front(), logits.error()) : DecodeAlone(batch);
      continue;
    }
    const auto vocab = static_cast<size_t>(engine_->shape().vocab);
    for (size_t i = 0; i < batch.size(); ++i) Choose(batch[i], logits->subspan(i * vocab, vocab));
  }
}

// After a step that failed, so that only those fail that need what has failed.
void Scheduler::Loop::DecodeAlone(std::span<const RequestPointer> batch) {
  for (const RequestPointer& request : batch) {
    if (request->ended) continue;
    TakePages(*request, 1);
    const StepInput input{&*request->sequence, {&request->tokens.back(), 1}};
    const auto logits = engine_->Step({&input, 1});
    Publish();
    logits.has_value() ? Choose(request, *logits) : EndWithError(request, logits.error());
  }
}

// Clients take turns, and so do the prompts of each.
RequestPointer Scheduler::Loop::NextInPrompt() const {
  const std::lock_guard lock(mutex_);
  RequestPointer next;
  const auto turn = [this](const Request& request) {
    return std::pair(turns_.Served(request.want.client), request.served);
  };
  for (const RequestPointer& request : running_) {
    if (request->InPrompt() && (next == nullptr || turn(*request) < turn(*next))) next = request;
  }
  return next;
}

// In place of a chunk. What cannot be had is computed, and all after it.
void Scheduler::Loop::LoadBlock(Request& request) {
  const int64_t block = disk_->block_tokens();
  const int64_t begin = request.done();
  TakePages(request, block);
  if (!disk_->Load(request.on_drive[static_cast<size_t>(begin / block)], &*request.sequence)) {
    request.on_drive.clear();
    return;
  }
  if (request.usage.cached_tokens == begin) {
    request.usage.cached_tokens += block;
    const std::lock_guard lock(mutex_);
    stats_.cached_tokens += block;
  }
  request.sink->OnPrefill(request.done(), request.prompt);
}

void Scheduler::Loop::PrefillOne() {
  const RequestPointer request = NextInPrompt();
  if (request == nullptr) return;
  request->served = ++chunks_;
  {
    const std::lock_guard lock(mutex_);
    turns_.Serve(request->want.client);
  }
  if (disk_ != nullptr &&
      request->done() < static_cast<int64_t>(request->on_drive.size()) * disk_->block_tokens())
    return LoadBlock(*request);
  const int64_t count = std::min<int64_t>(chunk_, request->prompt - request->done());
  const bool last = request->done() + count == request->prompt;
  const auto chunk = std::span(std::as_const(request->tokens))
                         .subspan(static_cast<size_t>(request->done()), static_cast<size_t>(count));
  TakePages(*request, count);
  Result<std::span<const float>> logits;
  Status done;
  const Clock::time_point begin = Clock::now();
  if (request->want.prompt_logprobs) {
    done = Score(*request, chunk);
    logits = std::span<const float>(last_logits_);
  } else if (last) {
    const StepInput input{&*request->sequence, chunk};
    logits = engine_->Step({&input, 1});
    if (!logits.has_value()) done = tl::unexpected(logits.error());
  } else {
    done = engine_->Extend(&*request->sequence, chunk);
  }
  if (done.has_value()) CountPrompt(count, begin);
  Publish();
  if (!done.has_value()) return EndWithError(request, done.error());
  {
    const std::lock_guard lock(mutex_);
    stats_.prompt_tokens += count;
    if (last) ++stats_.speed.prompts;
  }
  request->sink->OnPrefill(request->done(), request->prompt);
  if (!last) return;
  // Others that begin alike need not wait for this one's end. Whole pages, so that none has to be copied.
  const int64_t page = engine_->options().page_tokens;
  kept_.Keep(request->want.client, request->tokens,
             engine_->Fork(*request->sequence, request->prompt / page * page));
  if (disk_ != nullptr && request->want.on_disk) {
    disk_->Save(request->want.client,
                std::span(std::as_const(request->tokens)).first(static_cast<size_t>(request->prompt)),
                engine_->Fork(*request->sequence, request->prompt / page * page));
  }
  request->EndPhase(&request->usage.prefill_seconds);
  Choose(request, *logits);
}

// A chunk whose every position's logits are wanted; the last ones stay in last_logits_.
Status Scheduler::Loop::Score(Request& request, std::span<const int32_t> chunk) {
  const int64_t begin = request.done();
  const auto vocab = static_cast<size_t>(engine_->shape().vocab);
  return engine_->Score(&*request.sequence, chunk, [&](int64_t first, std::span<const float> logits) {
    for (size_t row = 0; row * vocab < logits.size(); ++row) {
      const auto of_row = logits.subspan(row * vocab, vocab);
      const int64_t next = begin + first + static_cast<int64_t>(row) + 1;
      if (next == request.prompt) {
        last_logits_.assign(of_row.begin(), of_row.end());
      } else {
        request.sink->OnPromptToken(
            next, LogprobsOf(of_row, request.tokens[static_cast<size_t>(next)], request.want.top_logprobs));
      }
    }
    return Status();
  });
}

// What may be chosen, as the request's own rules have it.
std::span<const float> Scheduler::Loop::Allowed(const Request& request, std::span<const float> logits) {
  const GenerationRequest& want = request.want;
  const bool too_early = request.usage.completion_tokens < want.min_tokens && !want.stop_tokens.empty();
  if (!too_early && want.logit_bias.empty() && want.mask == nullptr) return logits;
  masked_.assign(logits.begin(), logits.end());
  AddBias(want.logit_bias, masked_);
  if (too_early) Forbid(want.stop_tokens, masked_);
  if (want.mask != nullptr) KeepAllowed(want.mask->Allowed(), masked_);
  return masked_;
}

void Scheduler::Loop::Choose(const RequestPointer& request, std::span<const float> logits) {
  Request& r = *request;
  const int32_t token = r.sampler.Sample(Allowed(r, logits));
  const bool wanted = r.want.top_logprobs >= 0;
  if (std::ranges::find(r.want.stop_tokens, token) != r.want.stop_tokens.end()) {
    if (wanted) r.sink->OnStopToken(token, LogprobsOf(logits, token, r.want.top_logprobs));
    return End(request, FinishReason::kStop);
  }
  r.tokens.push_back(token);
  ++r.usage.completion_tokens;
  {
    const std::lock_guard lock(mutex_);
    ++stats_.completion_tokens;
  }
  TokenLogprobs logprobs;
  if (wanted) logprobs = LogprobsOf(logits, token, r.want.top_logprobs);
  if (!r.sink->OnToken(token, wanted ? &logprobs : nullptr)) return End(request, FinishReason::kStop);
  if (r.want.mask != nullptr && !r.want.mask->Accept(token)) return End(request, FinishReason::kStop);
  const int64_t room = engine_->context() - r.prompt;
  const int64_t most = r.want.max_tokens == 0 ? room : std::min(r.want.max_tokens, room);
  if (r.usage.completion_tokens >= most) End(request, FinishReason::kLength);
}

void Scheduler::Loop::Keep(Request& request) {
  if (!request.sequence) return;
  kept_.Keep(request.want.client, request.tokens, *std::move(request.sequence));
  request.sequence.reset();
}

// A lost device ends all of them, for good.
void Scheduler::Loop::EndWithError(const RequestPointer& request, const Error& error) {
  End(request, tl::unexpected(error));
  if (error.kind != ErrorKind::kDeviceLost) return;
  std::vector<RequestPointer> all;
  {
    const std::lock_guard lock(mutex_);
    if (std::exchange(dead_, error)) return;
    for (const auto& [id, other] : requests_) all.push_back(other);
  }
  for (const RequestPointer& other : all) End(other, tl::unexpected(error));
}

void Scheduler::Loop::End(const RequestPointer& request, Result<FinishReason> outcome) {
  if (std::exchange(request->ended, true)) return;
  const auto at = std::find(running_.begin(), running_.end(), request);
  const bool ran = at != running_.end();
  Request& r = *request;
  if (ran) {
    running_.erase(at);
    r.EndPhase(r.InPrompt() ? &r.usage.prefill_seconds : &r.usage.decode_seconds);
    Keep(r);
  } else {
    r.EndPhase(&r.usage.queue_seconds);
  }
  {
    const std::lock_guard lock(mutex_);
    if (ran) {
      turns_.End(r.want.client);
    } else {
      turns_.Remove(r.want.client, request);
      waiting_tokens_ -= r.prompt;
    }
    if (!outcome.has_value()) {
      ++stats_.failed;
    } else {
      ++(*outcome == FinishReason::kInterrupted ? stats_.cancelled : stats_.finished);
    }
    stats_.running = static_cast<int64_t>(running_.size());
  }
  r.sink->OnDone(std::move(outcome), r.usage);
  const std::lock_guard lock(mutex_);
  requests_.erase(r.id);
  changed_.notify_all();
}

// Before the sinks hear of a step, so that who hears of an end finds it counted.
void Scheduler::Loop::Publish() {
  const EngineStats engine = engine_->stats();
  const std::lock_guard lock(mutex_);
  stats_.steps = engine.steps;
  stats_.engine = engine;
}

Status Scheduler::Loop::Begin(const DiskPrefixOptions& disk) {
  if (disk.store != nullptr) {
    const auto on_room = [this] {
      { const std::lock_guard lock(mutex_); }
      changed_.notify_all();
    };
    MORAINE_ASSIGN_OR_RETURN(disk_, DiskPrefix::Create(engine_.get(), chunk_, disk, on_room));
  }
  thread_ = std::thread([this] { Run(); });
  return {};
}

Scheduler::Scheduler(std::unique_ptr<Loop> loop) : loop_(std::move(loop)) {}
Scheduler::~Scheduler() = default;

Result<std::unique_ptr<Scheduler>> Scheduler::Start(std::unique_ptr<Engine> engine,
                                                    const SchedulerOptions& options) {
  auto loop = std::make_unique<Loop>(std::move(engine), options);
  MORAINE_RETURN_IF_ERROR(loop->Begin(options.disk));
  return std::unique_ptr<Scheduler>(new Scheduler(std::move(loop)));
}

Result<RequestId> Scheduler::Submit(GenerationRequest request, std::shared_ptr<GenerationSink> sink) {
  return loop_->Submit(std::move(request), std::move(sink));
}
void Scheduler::Cancel(RequestId id) { loop_->Cancel(id); }
Status Scheduler::Health() const { return loop_->Health(); }
SchedulerStats Scheduler::stats() const { return loop_->stats(); }
const ModelShape& Scheduler::shape() const { return loop_->engine().shape(); }
int64_t Scheduler::context() const { return loop_->engine().context(); }
void Scheduler::Drain(std::chrono::milliseconds grace) { loop_->Drain(grace); }
void Scheduler::Change(const SchedulerChanges& changes) { loop_->Change(changes); }
void Scheduler::Poke() { loop_->Poke(); }
uint64_t Scheduler::Turns() const { return loop_->Turns(); }

}  // namespace moraine
