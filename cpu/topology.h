// Topology: the cores and NUMA nodes this process may use, and memory on one of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/core/ids.h"
#include "runtime/core/result.h"

namespace moraine {

/// A node that has cores we may use. Cores of a node without memory belong to the nearest node with some.
struct CpuNode {
  NodeId node;            // 0 .. nodes - 1, in the order of the operating system's numbers
  int os_index = 0;       // the operating system's number of it
  std::vector<int> cpus;  // first hardware thread of each usable core, as the operating system numbers them
  int64_t memory_bytes = 0;  // as the system states it; 0 when it does not
};

/// Of the processors whose cores this process may use. 0 and empty where the system does not say.
struct ProcessorFacts {
  std::string model;  // "Intel(R) Xeon(R) Platinum 8481C"
  int packages = 0;   // sockets
  int hardware_threads = 0;
  int64_t l2_bytes = 0;      // of one, the largest where they differ
  int64_t l3_bytes = 0;      // of one, the largest where they differ
  int l3_caches = 0;         // one a package, or one a few cores
  int64_t memory_bytes = 0;  // of all nodes of the machine
};

/// Where one worker runs.
struct WorkerPlace {
  NodeId node;
  int cpu = -1;  // to be bound to; -1: wherever the system likes
};

/// Memory of one node, given back when destroyed. Move-only.
class NodeMemory {
 public:
  NodeMemory() = default;
  NodeMemory(NodeMemory&& other) noexcept;
  NodeMemory& operator=(NodeMemory&& other) noexcept;
  ~NodeMemory();

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  friend class Topology;
  NodeMemory(std::byte* data, int64_t bytes) : data_(data), bytes_(bytes) {}
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

/// Immutable after Read; any thread may call.
class Topology {
 public:
  /// Reads this machine: online cores within the process's affinity and its cgroup's cpuset. With
  /// `synthetic`, one of hwloc's descriptions such as "node:2 core:4 pu:2", the machine it describes, on
  /// which nothing can be bound: for tests and for trying a plan. kHardware when it cannot be read, kUsage
  /// for a bad description.
  static Result<std::unique_ptr<Topology>> Read(const std::string& synthetic = "");
  ~Topology();

  /// At least one, each with at least one core.
  std::span<const CpuNode> nodes() const { return nodes_; }
  int cores() const;
  const ProcessorFacts& processor() const { return processor_; }
  bool synthetic() const { return synthetic_; }

  /// Places for `threads` workers: one on each node while there are enough, the rest in proportion to the
  /// nodes' cores, workers of a node side by side. One a core as long as there are cores; beyond that, and on
  /// a synthetic machine, unbound.
  std::vector<WorkerPlace> Place(int threads) const;

  /// `bytes` of zeroed memory on `node`, in huge pages where the system gives them; page-aligned. Bound
  /// before it is touched, so that it costs nothing until written. kDoesNotFit when the system refuses the
  /// address space.
  Result<NodeMemory> Allocate(int64_t bytes, NodeId node) const;

 private:
  struct State;
  explicit Topology(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
  std::vector<CpuNode> nodes_;
  ProcessorFacts processor_;
  bool synthetic_ = false;
};

/// Binds the calling thread to one CPU. False when the system refuses.
bool BindThread(int cpu);

}  // namespace moraine
