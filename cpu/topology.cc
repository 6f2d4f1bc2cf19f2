#include "cpu/topology.h"

#include <fmt/core.h>
#include <hwloc.h>
#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "runtime/core/check.h"
#include "runtime/core/handle.h"

namespace moraine {
namespace {

struct HwlocTraits {
  using Value = hwloc_topology_t;
  static Value Empty() { return nullptr; }
  static void Close(Value value) noexcept { hwloc_topology_destroy(value); }
};

struct BitmapTraits {
  using Value = hwloc_bitmap_t;
  static Value Empty() { return nullptr; }
  static void Close(Value value) noexcept { hwloc_bitmap_free(value); }
};
using Bitmap = Handle<BitmapTraits>;

// The node with memory that is nearest to `cpus`: the first of those whose locality holds or meets them.
hwloc_obj_t NearestNode(hwloc_topology_t topology, hwloc_const_cpuset_t cpus) {
  hwloc_obj_t fallback = nullptr;
  for (hwloc_obj_t node = nullptr;
       (node = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_NUMANODE, node)) != nullptr;) {
    if (hwloc_bitmap_intersects(node->cpuset, cpus) != 0) return node;
    if (fallback == nullptr) fallback = node;
  }
  return fallback;
}

// Of all objects of a type that hold one of `usable`: how many, and the largest as `size` sees it.
template <typename Size>
std::pair<int, int64_t> CountAndLargest(hwloc_topology_t topology, hwloc_obj_type_t type,
                                        hwloc_const_bitmap_t usable, Size&& size) {
  std::pair<int, int64_t> result{0, 0};
  for (hwloc_obj_t object = nullptr;
       (object = hwloc_get_next_obj_by_type(topology, type, object)) != nullptr;) {
    if (hwloc_bitmap_intersects(object->cpuset, usable) == 0) continue;
    ++result.first;
    result.second = std::max(result.second, static_cast<int64_t>(size(object)));
  }
  return result;
}

ProcessorFacts ReadProcessor(hwloc_topology_t topology, hwloc_const_bitmap_t usable) {
  const auto none = [](hwloc_obj_t) { return 0; };
  const auto cache = [](hwloc_obj_t object) { return object->attr->cache.size; };
  ProcessorFacts facts;
  facts.hardware_threads = hwloc_bitmap_weight(usable);
  facts.packages = CountAndLargest(topology, HWLOC_OBJ_PACKAGE, usable, none).first;
  facts.l2_bytes = CountAndLargest(topology, HWLOC_OBJ_L2CACHE, usable, cache).second;
  std::tie(facts.l3_caches, facts.l3_bytes) = CountAndLargest(topology, HWLOC_OBJ_L3CACHE, usable, cache);
  const hwloc_obj_t machine = hwloc_get_root_obj(topology);
  facts.memory_bytes = static_cast<int64_t>(machine->total_memory);
  const hwloc_obj_t package = hwloc_get_obj_by_type(topology, HWLOC_OBJ_PACKAGE, 0);
  const char* model = hwloc_obj_get_info_by_name(package == nullptr ? machine : package, "CPUModel");
  facts.model = model == nullptr ? "" : model;
  return facts;
}

}  // namespace

struct Topology::State {
  Handle<HwlocTraits> hwloc;
  std::vector<hwloc_obj_t> memory;  // NUMA node of each CpuNode
};

NodeMemory::NodeMemory(NodeMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

NodeMemory& NodeMemory::operator=(NodeMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

NodeMemory::~NodeMemory() {
  if (data_ != nullptr) munmap(data_, static_cast<size_t>(bytes_));
}

Topology::Topology(std::unique_ptr<State> state) : state_(std::move(state)) {}
Topology::~Topology() = default;

Result<std::unique_ptr<Topology>> Topology::Read(const std::string& synthetic) {
  auto state = std::make_unique<State>();
  hwloc_topology_t topology = nullptr;
  if (hwloc_topology_init(&topology) != 0) return Fail(ErrorKind::kHardware, "hwloc: out of memory");
  state->hwloc = Handle<HwlocTraits>(topology);
  if (!synthetic.empty() && hwloc_topology_set_synthetic(topology, synthetic.c_str()) != 0) {
    return Fail(ErrorKind::kUsage, fmt::format("topology \"{}\": hwloc does not understand it; an example is "
                                               "\"node:2 core:4 pu:2\"",
                                               synthetic));
  }
  if (hwloc_topology_load(topology) != 0)
    return Fail(ErrorKind::kHardware, "hwloc: the processors of this machine could not be read from /sys");

  // hwloc leaves out what is offline or outside the cgroup; the affinity (taskset) is ours to respect.
  const Bitmap usable(hwloc_bitmap_dup(hwloc_topology_get_topology_cpuset(topology)));
  if (synthetic.empty()) {
    const Bitmap bound(hwloc_bitmap_alloc());
    if (hwloc_get_cpubind(topology, bound.get(), HWLOC_CPUBIND_PROCESS) == 0)
      hwloc_bitmap_and(usable.get(), usable.get(), bound.get());
  }
  std::unique_ptr<Topology> result(new Topology(std::move(state)));
  result->synthetic_ = !synthetic.empty();
  const auto add = [&](hwloc_const_cpuset_t core) {
    const Bitmap threads(hwloc_bitmap_alloc());
    hwloc_bitmap_and(threads.get(), core, usable.get());
    const int first = hwloc_bitmap_first(threads.get());
    if (first < 0) return;
    hwloc_obj_t memory = NearestNode(topology, core);
    auto& nodes = result->state_->memory;
    const auto at = std::find(nodes.begin(), nodes.end(), memory);
    const auto index = static_cast<size_t>(at - nodes.begin());
    if (at == nodes.end()) {
      nodes.push_back(memory);
      result->nodes_.push_back(
          {.node = NodeId{static_cast<int32_t>(index)},
           .os_index = memory == nullptr ? 0 : static_cast<int>(memory->os_index),
           .cpus = {},
           .memory_bytes =
               memory == nullptr ? 0 : static_cast<int64_t>(memory->attr->numanode.local_memory)});
    }
    result->nodes_[index].cpus.push_back(first);
  };
  for (hwloc_obj_t core = nullptr;
       (core = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_CORE, core)) != nullptr;)
    add(core->cpuset);
  if (result->nodes_.empty()) {
    // Some virtual machines show hardware threads and no cores.
    for (hwloc_obj_t pu = nullptr; (pu = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_PU, pu)) != nullptr;)
      add(pu->cpuset);
  }
  if (result->nodes_.empty())
    return Fail(ErrorKind::kHardware,
                "no processor of this machine is left to this process: see its affinity "
                "and its cgroup's cpuset");
  result->processor_ = ReadProcessor(topology, usable.get());
  return result;
}

int Topology::cores() const {
  size_t cores = 0;
  for (const CpuNode& node : nodes_) cores += node.cpus.size();
  return static_cast<int>(cores);
}

std::vector<WorkerPlace> Topology::Place(int threads) const {
  MORAINE_CHECK(threads >= 1);
  // One on each node while there are enough, the rest where the share of cores in use is least.
  std::vector<int> counts(nodes_.size(), 0);
  for (int i = 0; i < threads; ++i) {
    size_t best = static_cast<size_t>(i);
    if (best >= nodes_.size()) {
      const auto load = [&](size_t n) {
        return (counts[n] + 1) / static_cast<double>(nodes_[n].cpus.size());
      };
      best = 0;
      for (size_t n = 1; n < nodes_.size(); ++n) best = load(n) < load(best) ? n : best;
    }
    ++counts[best];
  }
  const bool bind = !synthetic_ && threads <= cores();
  std::vector<WorkerPlace> places;
  for (size_t n = 0; n < nodes_.size(); ++n) {
    for (int i = 0; i < counts[n]; ++i) {
      places.push_back({.node = nodes_[n].node, .cpu = bind ? nodes_[n].cpus[static_cast<size_t>(i)] : -1});
    }
  }
  return places;
}

Result<NodeMemory> Topology::Allocate(int64_t bytes, NodeId node) const {
  if (bytes == 0) return NodeMemory();
  const auto size = static_cast<size_t>(bytes);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    return Fail(ErrorKind::kDoesNotFit, fmt::format("the system refused {} bytes of memory", bytes));
  // Both are wishes: a refusal costs speed only. Small pages would cost a TLB miss every other row.
  madvise(memory, size, MADV_HUGEPAGE);
  hwloc_obj_t home = state_->memory.at(static_cast<size_t>(node.value));
  if (!synthetic_ && home != nullptr && nodes_.size() > 1) {
    hwloc_set_area_membind(state_->hwloc.get(), memory, size, home->nodeset, HWLOC_MEMBIND_BIND,
                           HWLOC_MEMBIND_BYNODESET);
  }
  return NodeMemory(static_cast<std::byte*>(memory), bytes);
}

bool BindThread(int cpu) {
  cpu_set_t* set = CPU_ALLOC(static_cast<size_t>(cpu) + 1);
  const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(cpu) + 1);
  CPU_ZERO_S(bytes, set);
  CPU_SET_S(static_cast<size_t>(cpu), bytes, set);
  const bool bound = sched_setaffinity(0, bytes, set) == 0;
  CPU_FREE(set);
  return bound;
}

}  // namespace moraine
