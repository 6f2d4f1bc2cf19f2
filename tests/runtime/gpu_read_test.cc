// runtime/gpu_read.h: a library that plays NVML, and made-up PCI buses.
#include "runtime/gpu_read.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/support/fake_root.h"

namespace moraine {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct FakeNvml {
  explicit FakeNvml(const char* mode) { setenv("MORAINE_FAKE_NVML", mode, 1); }
  ~FakeNvml() { unsetenv("MORAINE_FAKE_NVML"); }
  static GpuList Read(const test::FakeRoot& root) { return ReadGpus(MORAINE_FAKE_NVML_PATH, root.path()); }
};

// An RTX 4090 and, as a trap, its sound device and another maker's card.
void PutCards(const test::FakeRoot& root) {
  const std::string at = "sys/bus/pci/devices/0000:41:00.";
  root.Put(at + "0/vendor", "0x10de\n");
  root.Put(at + "0/class", "0x030000\n");
  root.Put(at + "0/device", "0x2684\n");
  root.Put(at + "0/max_link_speed", "16.0 GT/s PCIe\n");
  root.Put(at + "0/max_link_width", "16\n");
  root.Put(at + "1/vendor", "0x10de\n");
  root.Put(at + "1/class", "0x040300\n");
  root.Put("sys/bus/pci/devices/0000:03:00.0/vendor", "0x1a03\n");
  root.Put("sys/bus/pci/devices/0000:03:00.0/class", "0x030000\n");
}

TEST(GpuRead, NvmlSaysEverything) {
  const test::FakeRoot root;
  const GpuList list = FakeNvml("").Read(root);
  ASSERT_EQ(list.gpus.size(), 1u);
  const GpuDevice& gpu = list.gpus[0];
  EXPECT_EQ(gpu.name, "NVIDIA GeForce RTX 4090");
  EXPECT_EQ(gpu.pci, "0000:41:00.0");
  EXPECT_EQ(gpu.memory_bytes, int64_t{24} << 30);
  EXPECT_EQ(gpu.free_bytes, int64_t{23} << 30);
  EXPECT_EQ(gpu.pcie_generation, 4);
  EXPECT_EQ(gpu.pcie_width, 8);
  EXPECT_EQ(gpu.compute_major, 8);
  EXPECT_EQ(gpu.compute_minor, 9);
  EXPECT_EQ(gpu.driver, "580.65.06");
  EXPECT_EQ(gpu.from, "NVML");
  EXPECT_THAT(list.notes, IsEmpty());
}

TEST(GpuRead, NoGpuIsNothingAndNoNote) {
  const test::FakeRoot root;
  for (const std::string& library : {std::string(), std::string("libno-such-nvml.so.1")}) {
    const GpuList list = ReadGpus(library, root.path());
    EXPECT_THAT(list.gpus, IsEmpty());
    EXPECT_THAT(list.notes, IsEmpty());
  }
  EXPECT_THAT(FakeNvml("none").Read(root).gpus, IsEmpty());
}

TEST(GpuRead, ACardWithoutADriverIsNamedAndOfNoUse) {
  const test::FakeRoot root;
  PutCards(root);
  const GpuList list = ReadGpus("libno-such-nvml.so.1", root.path());
  ASSERT_EQ(list.gpus.size(), 1u);
  EXPECT_EQ(list.gpus[0].name, "PCI 10de:2684");
  EXPECT_EQ(list.gpus[0].pcie_generation, 4);
  EXPECT_EQ(list.gpus[0].pcie_width, 16);
  EXPECT_EQ(list.gpus[0].driver, "");
  EXPECT_THAT(list.notes, ElementsAre(HasSubstr("libno-such-nvml.so.1 is not there")));

  root.Put("proc/driver/nvidia/gpus/0000:41:00.0/information",
           "Model: \t\t NVIDIA GeForce RTX 4090\nIRQ: 7\n");
  const GpuList broken = FakeNvml("broken").Read(root);
  ASSERT_EQ(broken.gpus.size(), 1u);
  EXPECT_EQ(broken.gpus[0].name, "NVIDIA GeForce RTX 4090");
  EXPECT_THAT(broken.notes, ElementsAre(HasSubstr("Driver Not Loaded")));
}

TEST(GpuRead, ADeviceThatNvmlDoesNotGiveIsSaid) {
  const test::FakeRoot root;
  const GpuList list = FakeNvml("lost").Read(root);
  EXPECT_THAT(list.gpus, IsEmpty());
  EXPECT_THAT(list.notes, ElementsAre(HasSubstr("GPU 0")));
}

TEST(GpuRead, ALibraryThatIsNotNvmlIsRefused) {
  const test::FakeRoot root;
  PutCards(root);
  const GpuList list = ReadGpus("libm.so.6", root.path());
  ASSERT_EQ(list.gpus.size(), 1u);
  EXPECT_THAT(list.notes, ElementsAre(HasSubstr("lacks functions of NVML")));
}

}  // namespace
}  // namespace moraine
