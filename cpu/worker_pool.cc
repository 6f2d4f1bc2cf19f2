#include "cpu/worker_pool.h"

#include <algorithm>

#include "runtime/core/check.h"

namespace moraine {
namespace {

// About 20 us of pauses (some 140 cycles each since Skylake): longer than the gap between two jobs of a
// layer, short enough that an idle process uses no CPU.
constexpr int kSpins = 500;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

// Returns once `value` differs from `old`: spins, then sleeps in the kernel.
void AwaitChange(const std::atomic<uint32_t>& value, uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    Pause();
  }
  value.wait(old, std::memory_order_acquire);
}

std::vector<WorkerPlace> Unbound(int threads) {
  MORAINE_CHECK(threads >= 1);
  return std::vector<WorkerPlace>(static_cast<size_t>(threads), WorkerPlace{.node = NodeId{0}});
}

}  // namespace

WorkerPool::WorkerPool(int threads) : WorkerPool(Unbound(threads)) {}

WorkerPool::WorkerPool(std::vector<WorkerPlace> places)
    : places_(std::move(places)),
      queues_(places_.empty() ? 0 : static_cast<size_t>(places_.back().node.value) + 2),
      counts_(places_.empty() ? 0 : queues_.size() - 1) {
  MORAINE_CHECK(!places_.empty());
  for (int32_t n = 0; n < nodes(); ++n) MORAINE_CHECK(threads_of(NodeId{n}) > 0);
  threads_.reserve(places_.size() - 1);
  for (int worker = 1; worker < threads(); ++worker) threads_.emplace_back([this, worker] { Loop(worker); });
}

WorkerPool::~WorkerPool() {
  stop_.store(true, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

int WorkerPool::threads_of(NodeId node) const {
  return static_cast<int>(
      std::count_if(places_.begin(), places_.end(), [node](const WorkerPlace& p) { return p.node == node; }));
}

void WorkerPool::BindCaller() {
  if (caller_bound_) return;
  caller_bound_ = true;
  if (places_.front().cpu >= 0) BindThread(places_.front().cpu);
}

void WorkerPool::RunShared(int64_t tasks, Function function, const void* context) {
  MORAINE_CHECK(tasks >= 0 && tasks < int64_t{1} << 31);
  // Alone, or with one task: waking the others would cost more than the work.
  if (threads_.empty() || tasks <= 1) {
    BindCaller();
    for (int64_t task = 0; task < tasks; ++task) function(const_cast<void*>(context), NodeId{0}, task, 0);
    return;
  }
  Start(tasks, function, context, true);
  Work(0);
  Finish();
}

void WorkerPool::RunNodes(int64_t total, Function function, const void* context) {
  MORAINE_CHECK(total >= 0 && total < int64_t{1} << 31);
  if (total == 0) return;
  if (threads_.empty()) {
    BindCaller();
    for (int64_t task = 0; task < total; ++task) function(const_cast<void*>(context), NodeId{0}, task, 0);
    return;
  }
  Start(total, function, context, false);
  Work(0);
  Finish();
}

void WorkerPool::Start(int64_t total, Function function, const void* context, bool shared) {
  BindCaller();
  function_ = function;
  context_ = const_cast<void*>(context);
  shared_.store(shared, std::memory_order_relaxed);
  left_.store(static_cast<uint32_t>(total), std::memory_order_relaxed);
  if (shared) {
    queues_.back().word.store(static_cast<uint64_t>(total) << 32, std::memory_order_release);
  } else {
    for (size_t n = 0; n < counts_.size(); ++n)
      queues_[n].word.store(static_cast<uint64_t>(counts_[n]) << 32, std::memory_order_release);
  }
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
}

void WorkerPool::Finish() {
  for (uint32_t left = left_.load(std::memory_order_acquire); left != 0;
       left = left_.load(std::memory_order_acquire)) {
    AwaitChange(left_, left);
  }
}

// What `shared_` says is at least as new as the epoch this worker saw: a newer job's word sends it to a queue
// that is empty or that job's own, and the epoch calls it again.
void WorkerPool::Work(int worker) {
  const NodeId node = places_[static_cast<size_t>(worker)].node;
  const bool shared = shared_.load(std::memory_order_relaxed);
  Drain(shared ? queues_.back() : queues_[static_cast<size_t>(node.value)], node, worker);
}

void WorkerPool::Drain(Queue& queue, NodeId node, int worker) {
  while (true) {
    const uint64_t word = queue.word.fetch_add(1, std::memory_order_acq_rel);
    const uint64_t tasks = word >> 32;
    const uint64_t task = word & 0xFFFFFFFFu;
    if (task >= tasks) return;
    function_(context_, node, static_cast<int64_t>(task), worker);
    if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1 && worker != 0) left_.notify_one();
  }
}

void WorkerPool::Loop(int worker) {
  const int cpu = places_[static_cast<size_t>(worker)].cpu;
  if (cpu >= 0) BindThread(cpu);
  uint32_t seen = 0;
  while (true) {
    AwaitChange(epoch_, seen);
    seen = epoch_.load(std::memory_order_acquire);
    if (stop_.load(std::memory_order_relaxed)) return;
    Work(worker);
  }
}

}  // namespace moraine
