// WorkerPool: the threads of one step, by NUMA node. The caller is worker 0; the others spin briefly, then
// sleep.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "cpu/topology.h"
#include "runtime/core/ids.h"

namespace moraine {

/// ParallelFor and ForNodes are called from one thread at a time (the one that runs steps) and do not nest.
/// They allocate nothing, and what a task computes may depend on its number only, never on the worker: then
/// the thread count changes no bit. The thread that first calls one of them is bound to worker 0's place, if
/// that has a CPU, and stays bound.
class WorkerPool {
 public:
  /// Workers in the order of `places` (at least one, nodes ascending from 0), the caller's own first.
  explicit WorkerPool(std::vector<WorkerPlace> places);
  /// `threads` >= 1 unbound workers on one node.
  explicit WorkerPool(int threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  int threads() const { return static_cast<int>(places_.size()); }
  int nodes() const { return static_cast<int>(counts_.size()); }
  /// Workers of one node.
  int threads_of(NodeId node) const;

  /// Calls body(task, worker) for every task in [0, tasks), worker in [0, threads()), each task on any
  /// worker; returns when all are done. `body` is noexcept in spirit: kernels report nothing.
  template <typename Body>
  void ParallelFor(int64_t tasks, Body&& body) {
    const auto call = [](void* context, NodeId, int64_t task, int worker) {
      (*static_cast<std::remove_reference_t<Body>*>(context))(task, worker);
    };
    RunShared(tasks, call, &body);
  }

  /// Calls body(node, task, worker) for every node and every task in [0, tasks(node)), on workers of that
  /// node only. `tasks` may be asked more than once.
  template <typename Tasks, typename Body>
  void ForNodes(Tasks&& tasks, Body&& body) {
    const auto call = [](void* context, NodeId node, int64_t task, int worker) {
      (*static_cast<std::remove_reference_t<Body>*>(context))(node, task, worker);
    };
    int64_t total = 0;
    for (int32_t n = 0; n < nodes(); ++n) total += counts_[static_cast<size_t>(n)] = tasks(NodeId{n});
    RunNodes(total, call, &body);
  }

 private:
  using Function = void (*)(void* context, NodeId node, int64_t task, int worker);

  // A job ends when its tasks have ended, not when every worker has looked in: a worker whose core is taken
  // by another process holds nobody up. So a late worker may reach for a task while the next job is being set
  // up; it takes what the queue's word says at that moment, tasks and next task in one, and touches the other
  // fields only with a task in hand, which keeps the job alive.
  struct alignas(64) Queue {
    std::atomic<uint64_t> word{0};  // tasks << 32 | next task
  };

  void RunShared(int64_t tasks, Function function, const void* context);
  void RunNodes(int64_t total, Function function, const void* context);
  void Start(int64_t total, Function function, const void* context, bool shared);
  void Finish();
  void Work(int worker);
  void Drain(Queue& queue, NodeId node, int worker);
  void Loop(int worker);
  void BindCaller();

  std::vector<WorkerPlace> places_;
  std::vector<Queue> queues_;    // one a node, and one for jobs of all workers
  std::vector<int64_t> counts_;  // tasks of each node in the job being set up
  Function function_ = nullptr;
  void* context_ = nullptr;
  std::atomic<bool> shared_{false};             // all workers take from the last queue
  alignas(64) std::atomic<uint32_t> left_{0};   // tasks not yet ended
  alignas(64) std::atomic<uint32_t> epoch_{0};  // a new value: a job is there
  std::atomic<bool> stop_{false};
  bool caller_bound_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace moraine
