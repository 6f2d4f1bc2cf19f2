// cpu/topology.h on machines that hwloc makes up, and on this one.
#include "cpu/topology.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <set>

namespace moraine {
namespace {

std::unique_ptr<Topology> Machine(const std::string& description) {
  auto topology = Topology::Read(description);
  EXPECT_TRUE(topology.has_value()) << topology.error().message;
  return std::move(topology).value();
}

TEST(Topology, NodesCoresAndNoSecondHardwareThreads) {
  const auto machine = Machine("package:2 numa:1 core:4 pu:2");
  ASSERT_EQ(machine->nodes().size(), 2u);
  EXPECT_EQ(machine->cores(), 8);
  EXPECT_EQ(machine->nodes()[0].cpus, (std::vector<int>{0, 2, 4, 6}));
  EXPECT_EQ(machine->nodes()[1].cpus, (std::vector<int>{8, 10, 12, 14}));
  EXPECT_GT(machine->nodes()[1].memory_bytes, 0);
  EXPECT_EQ(Machine("numa:3 core:2 pu:1")->nodes().size(), 3u);
  EXPECT_EQ(Machine("numa:8 core:2 pu:1")->nodes().size(), 8u);
}

TEST(Topology, ProcessorFactsCountPackagesThreadsAndCaches) {
  const ProcessorFacts two =
      Machine("package:2 l3:2(size=16777216) l2:2(size=1048576) core:1 pu:2")->processor();
  EXPECT_EQ(two.packages, 2);
  EXPECT_EQ(two.hardware_threads, 16);
  EXPECT_EQ(two.l3_caches, 4);
  EXPECT_EQ(two.l3_bytes, 16 << 20);
  EXPECT_EQ(two.l2_bytes, 1 << 20);
  EXPECT_GT(two.memory_bytes, 0);
  const ProcessorFacts bare = Machine("node:1 core:2 pu:1")->processor();
  EXPECT_EQ(bare.l3_caches, 0);
  EXPECT_EQ(bare.hardware_threads, 2);
}

TEST(Topology, WorkersArePlacedByCoresAndNodesStayTogether) {
  const auto machine = Machine("package:2 numa:1 core:4 pu:2");
  const auto nodes = [&](int threads) {
    std::vector<int> of;
    for (const WorkerPlace& place : machine->Place(threads)) {
      EXPECT_EQ(place.cpu, -1) << "a made-up machine binds nothing";
      of.push_back(place.node.value);
    }
    return of;
  };
  EXPECT_EQ(nodes(1), (std::vector<int>{0}));
  EXPECT_EQ(nodes(2), (std::vector<int>{0, 1}));
  EXPECT_EQ(nodes(5), (std::vector<int>{0, 0, 0, 1, 1}));
  EXPECT_EQ(nodes(8), (std::vector<int>{0, 0, 0, 0, 1, 1, 1, 1}));
  EXPECT_EQ(nodes(20).size(), 20u);
}

TEST(Topology, ABadDescriptionIsRefused) {
  const auto topology = Topology::Read("nodes of some kind");
  ASSERT_FALSE(topology.has_value());
  EXPECT_EQ(topology.error().kind, ErrorKind::kUsage);
}

TEST(Topology, ThisMachineHasWhatTheAffinityAllows) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  const auto all = Machine("");
  std::set<int> usable;
  for (const CpuNode& node : all->nodes()) usable.insert(node.cpus.begin(), node.cpus.end());
  for (const int cpu : usable) EXPECT_TRUE(CPU_ISSET(cpu, &before)) << cpu;
  EXPECT_EQ(static_cast<int>(usable.size()), all->cores());

  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(*usable.rbegin(), &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  const auto narrow = Machine("");
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
  EXPECT_EQ(narrow->cores(), 1);
  EXPECT_EQ(narrow->nodes()[0].cpus[0], *usable.rbegin());
  EXPECT_EQ(narrow->Place(1)[0].cpu, *usable.rbegin());
  EXPECT_EQ(narrow->Place(2)[0].cpu, -1) << "two workers on one core had better not be bound";
}

TEST(Topology, MemoryIsZeroedWritableAndMoves) {
  const auto machine = Machine("");
  auto memory = machine->Allocate(5 << 20, NodeId{0});
  ASSERT_TRUE(memory.has_value());
  EXPECT_EQ(memory->data()[(5 << 20) - 1], std::byte{0});
  memory->data()[0] = std::byte{7};
  const NodeMemory moved = std::move(*memory);
  EXPECT_EQ(moved.data()[0], std::byte{7});
  EXPECT_EQ(moved.bytes(), 5 << 20);
  EXPECT_FALSE(machine->Allocate(int64_t{1} << 62, NodeId{0}).has_value());
}

}  // namespace
}  // namespace moraine
