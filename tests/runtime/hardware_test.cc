// runtime/hardware.h and hardware_read.h on made-up machines and on this one.
#include "runtime/hardware.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>

#include "runtime/hardware_read.h"
#include "tests/support/fake_root.h"

namespace moraine {
namespace {

using testing::HasSubstr;

constexpr int64_t kGiB = int64_t{1} << 30;

// Two sockets of four cores with two threads each, 32 GiB.
struct Machine {
  Machine() {
    root.Put("proc/meminfo", "MemTotal: 33554432 kB\nMemFree: 1 kB\nMemAvailable: 16777216 kB\n");
    root.Put("proc/self/statm", "900 0 3\n");
    root.Put("proc/cpuinfo", "processor\t: 0\nmodel name\t: Made-up CPU 9\nflags\t\t: fpu\n");
  }
  Result<Hardware> Read() const {
    return ReadHardware("", {.root = root.path(), .topology = topology, .nvml = ""});
  }
  test::FakeRoot root;
  std::string topology =
      "package:2 numa:1(memory=17179869184) l3:1(size=33554432) l2:4(size=1048576) core:1 pu:2";
};

TEST(Hardware, ReadsAMadeUpMachine) {
  Machine machine;
  machine.root.Put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
  machine.root.Put("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "3\n");
  machine.root.Put("sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages", "2\n");
  const auto h = machine.Read();
  ASSERT_TRUE(h.has_value()) << h.error().message;
  EXPECT_EQ(h->cpu_model, "Made-up CPU 9");
  EXPECT_EQ(h->packages, 2);
  ASSERT_EQ(h->nodes.size(), 2u);
  EXPECT_EQ(h->nodes[1].cores, 4);
  EXPECT_EQ(h->nodes[1].memory_bytes, 16 * kGiB);
  EXPECT_EQ(h->cores, 8);
  EXPECT_EQ(h->workers, 8);
  EXPECT_EQ(h->hardware_threads, 16);
  EXPECT_EQ(h->l2_bytes, 1 << 20);
  EXPECT_EQ(h->l3_bytes, 32 << 20);
  EXPECT_EQ(h->l3_caches, 2);
  EXPECT_EQ(h->ram.bytes, 16 * kGiB);
  EXPECT_EQ(h->ram.source, "MemAvailable");
  EXPECT_EQ(h->ram_total.value, 32.0 * static_cast<double>(kGiB));
  EXPECT_EQ(h->topology_memory_bytes, 32 * kGiB);
  EXPECT_EQ(h->ram_note, "");
  EXPECT_EQ(h->transparent_huge_pages, "madvise");
  EXPECT_EQ(h->free_hugetlb_bytes, 2 * kGiB + (6 << 20));
  EXPECT_TRUE(h->gpus.empty());
  EXPECT_TRUE(h->notes.empty());
  EXPECT_EQ(h->rates.node_memory.size(), 2u);
  EXPECT_EQ(h->fingerprint, Fingerprint(*h));
}

TEST(Hardware, WhereKernelAndHwlocDifferTheKernelDecides) {
  Machine machine;
  machine.topology = "numa:1(memory=17179869184) core:2 pu:1";
  const auto h = machine.Read();
  ASSERT_TRUE(h.has_value());
  EXPECT_EQ(h->ram_total.value, 32.0 * static_cast<double>(kGiB));
  EXPECT_THAT(h->ram_note, HasSubstr("the kernel counts 32.0 GiB, hwloc adds up 16.0 GiB"));
}

TEST(Hardware, AGroupLimitsMemoryAndWorkers) {
  const Machine machine;
  machine.root.Put("proc/self/cgroup", "0::/\n");
  machine.root.Put("sys/fs/cgroup/memory.max", std::to_string(4 * kGiB) + "\n");
  machine.root.Put("sys/fs/cgroup/memory.current", "0\n");
  machine.root.Put("sys/fs/cgroup/memory.stat", "anon 0\n");
  machine.root.Put("sys/fs/cgroup/cpu.max", "250000 100000\n");
  const auto h = machine.Read();
  ASSERT_TRUE(h.has_value());
  EXPECT_EQ(h->ram.bytes, 4 * kGiB);
  EXPECT_THAT(h->ram_note, HasSubstr("4.0 GiB of 32.0 GiB"));
  EXPECT_EQ(h->cpu_quota, 2.5);
  EXPECT_EQ(h->workers, 3);
  EXPECT_EQ(h->cores, 8);
}

TEST(Hardware, WithoutMemoryOrProcessorsItIsUnreadable) {
  const test::FakeRoot nothing;
  const auto no_memory = ReadHardware("", {.root = nothing.path(), .topology = "core:2 pu:1", .nvml = ""});
  ASSERT_FALSE(no_memory.has_value());
  EXPECT_EQ(no_memory.error().kind, ErrorKind::kHardware);
  nothing.Put("proc/meminfo", "MemAvailable: 5 kB\n");
  const auto no_total = ReadHardware("", {.root = nothing.path(), .topology = "core:2 pu:1", .nvml = ""});
  ASSERT_FALSE(no_total.has_value());
  EXPECT_EQ(no_total.error().kind, ErrorKind::kHardware);
  EXPECT_THAT(no_total.error().message, HasSubstr("MemTotal"));
  Machine machine;
  machine.topology = "no machine";
  EXPECT_FALSE(machine.Read().has_value());
}

TEST(Hardware, ThisMachineIsPlausible) {
  const auto h = ReadHardware(MORAINE_SOURCE_DIR);
  ASSERT_TRUE(h.has_value()) << h.error().message;
  EXPECT_FALSE(h->cpu_model.empty());
  EXPECT_GE(h->cores, 1);
  EXPECT_GE(h->packages, 1);
  EXPECT_GE(h->hardware_threads, h->cores);
  EXPECT_LE(h->workers, h->cores);
  EXPECT_GE(h->workers, 1);
  EXPECT_GT(h->ram.bytes, int64_t{64} << 20);
  EXPECT_GE(h->ram_total.value, static_cast<double>(h->ram.bytes) * 0.99);
  EXPECT_GT(h->drive.total_bytes, h->drive.free_bytes);
  EXPECT_FALSE(h->drive.filesystem.empty());
  EXPECT_GT(h->rates.memory_read.value, 0);
  EXPECT_GT(h->rates.drive_read.value, 0);
  for (const GpuDevice& gpu : h->gpus) EXPECT_FALSE(gpu.name.empty());
  EXPECT_EQ(h->fingerprint, ReadHardware("")->fingerprint) << "the drive is no part of it";
}

TEST(Hardware, TheFingerprintTellsMachinesApart) {
  const Hardware base = *Machine().Read();
  const auto differs = [&](auto&& change) {
    Hardware other = base;
    change(&other);
    return Fingerprint(other) != Fingerprint(base);
  };
  EXPECT_TRUE(differs([](Hardware* h) { h->cpu_model = "another"; }));
  EXPECT_TRUE(differs([](Hardware* h) { h->cores = 7; }));
  EXPECT_TRUE(differs([](Hardware* h) { h->workers = 7; }));
  EXPECT_TRUE(differs([](Hardware* h) { h->isa = "none"; }));
  EXPECT_TRUE(differs([](Hardware* h) { h->ram_total.value = 64.0 * static_cast<double>(kGiB); }));
  EXPECT_FALSE(differs([](Hardware* h) { h->ram_total.value -= 1e6; })) << "the kernel's own share moves";
  EXPECT_FALSE(differs([](Hardware* h) { h->ram.bytes = 5; }));
}

TEST(Hardware, TheNearestGroupOfTheFormatIsFound) {
  Rates rates;
  EXPECT_EQ(FindExpertRate(rates, WeightFormat::kBf16, 0), nullptr);
  rates.experts = {{"int4-g32", WeightFormat::kInt4Group, 32, {}, {}},
                   {"int4-g128", WeightFormat::kInt4Group, 128, {}, {}},
                   {"int8-g128", WeightFormat::kInt8Group, 128, {}, {}}};
  EXPECT_EQ(FindExpertRate(rates, WeightFormat::kInt4Group, 32)->name, "int4-g32");
  EXPECT_EQ(FindExpertRate(rates, WeightFormat::kInt4Group, 256)->name, "int4-g128");
  EXPECT_EQ(FindExpertRate(rates, WeightFormat::kInt4Group, 0)->name, "int4-g128") << "a scale a row";
  EXPECT_EQ(FindExpertRate(rates, WeightFormat::kInt8Group, 32)->name, "int8-g128");
  EXPECT_EQ(FindExpertRate(rates, WeightFormat::kF32, 0), nullptr);
}

}  // namespace
}  // namespace moraine
