// runtime/assumed_rates.h.
#include "runtime/assumed_rates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moraine {
namespace {

using testing::HasSubstr;

Hardware Machine(int cores, const std::string& isa = "avx2") {
  Hardware h;
  h.nodes = {{.os_index = 0, .cores = cores, .memory_bytes = 0}};
  h.cores = h.workers = cores;
  h.isa = isa;
  return h;
}

TEST(AssumedRates, MemoryGrowsWithCoresUpToItsChannels) {
  EXPECT_EQ(AssumedRates(Machine(2)).memory_read.value, 20e9);
  EXPECT_EQ(AssumedRates(Machine(16)).memory_read.value, 40e9);
  EXPECT_EQ(AssumedRates(Machine(64)).memory_read.value, 80e9);
  Hardware two = Machine(32);
  two.nodes = {{0, 16, 0}, {1, 16, 0}};
  const Rates rates = AssumedRates(two);
  EXPECT_EQ(rates.memory_read.value, 80e9);
  ASSERT_EQ(rates.node_memory.size(), 2u);
  EXPECT_EQ(rates.node_memory[1].value, 40e9);
}

TEST(AssumedRates, EveryFigureSaysThatItIsAssumedAndWhy) {
  Hardware h = Machine(8);
  h.gpus = {{.name = "NVIDIA GeForce RTX 3090"}};
  const Rates rates = AssumedRates(h);
  std::vector<Figure> all = {rates.memory_read, rates.drive_read, rates.pcie, rates.vram_read,
                             rates.attention_flops};
  all.insert(all.end(), rates.node_memory.begin(), rates.node_memory.end());
  for (const ExpertRate& rate : rates.experts) {
    all.push_back(rate.decode_bytes_s);
    for (const PrefillRate& prefill : rate.prefill) all.push_back(prefill.flops_s);
  }
  for (const Figure& figure : all) {
    EXPECT_EQ(figure.origin, Origin::kAssumed);
    EXPECT_FALSE(figure.from.empty());
    EXPECT_GT(figure.value, 0);
  }
  EXPECT_TRUE(rates.drive_by_depth.empty());
}

TEST(AssumedRates, ExpertsAreBoundByMemoryOrByCores) {
  // Two cores are slower than their memory, sixteen are not.
  const ExpertRate* few = nullptr;
  const Rates two = AssumedRates(Machine(2));
  few = FindExpertRate(two, WeightFormat::kFp8E4M3Block, 128);
  ASSERT_NE(few, nullptr);
  EXPECT_THAT(few->decode_bytes_s.from, HasSubstr("2 worker(s)"));
  const Rates sixteen = AssumedRates(Machine(16));
  const ExpertRate* many = FindExpertRate(sixteen, WeightFormat::kFp8E4M3Block, 128);
  EXPECT_DOUBLE_EQ(many->decode_bytes_s.value, 0.85 * sixteen.memory_read.value);
  EXPECT_THAT(many->decode_bytes_s.from, HasSubstr("memory"));
}

TEST(AssumedRates, ABetterKernelRowIsNeverSlower) {
  double last_decode = 0;
  double last_prefill = 0;
  for (const char* isa : {"scalar", "avx2", "avx512", "avx512-vnni", "avx512-vbmi", "amx"}) {
    const Rates rates = AssumedRates(Machine(1, isa));
    const ExpertRate* rate = FindExpertRate(rates, WeightFormat::kInt4Group, 64);
    EXPECT_GE(rate->decode_bytes_s.value, last_decode) << isa;
    EXPECT_GE(rate->prefill.back().flops_s.value, last_prefill) << isa;
    last_decode = rate->decode_bytes_s.value;
    last_prefill = rate->prefill.back().flops_s.value;
  }
}

TEST(AssumedRates, TheSlowestDriveIsTheSlowest) {
  Hardware h = Machine(4);
  double last = 1e18;
  for (const DriveKind kind :
       {DriveKind::kMemory, DriveKind::kNvme, DriveKind::kSsd, DriveKind::kDisk, DriveKind::kNetwork}) {
    h.drive.kind = kind;
    if (kind == DriveKind::kMemory) continue;
    EXPECT_LT(AssumedRates(h).drive_read.value, last) << Name(kind);
    last = AssumedRates(h).drive_read.value;
  }
}

TEST(AssumedRates, WithoutAGpuItsRatesAreNothing) {
  const Rates rates = AssumedRates(Machine(4));
  EXPECT_EQ(rates.pcie.value, 0);
  EXPECT_EQ(rates.vram_read.value, 0);
  EXPECT_EQ(rates.pcie.from, "no GPU");
}

TEST(AssumedRates, LinksByGenerationAndLanes) {
  EXPECT_NEAR(PcieBytesPerSecond(4, 16), 25.2e9, 0.1e9);
  EXPECT_NEAR(PcieBytesPerSecond(3, 8), 6.3e9, 0.1e9);
  EXPECT_EQ(PcieBytesPerSecond(0, 16), 0);
  EXPECT_EQ(PcieBytesPerSecond(9, 16), 0);
  EXPECT_EQ(PcieBytesPerSecond(4, 0), 0);
}

TEST(AssumedRates, CardsByTheirLongestName) {
  EXPECT_EQ(VramBytesPerSecond("NVIDIA GeForce RTX 4090"), 1008e9);
  EXPECT_EQ(VramBytesPerSecond("NVIDIA GeForce RTX 3090 Ti"), 1008e9);
  EXPECT_EQ(VramBytesPerSecond("NVIDIA GeForce RTX 3090"), 936e9);
  EXPECT_EQ(VramBytesPerSecond("NVIDIA A100-SXM4-80GB"), 2039e9);
  EXPECT_EQ(VramBytesPerSecond("NVIDIA A10"), 600e9);
  EXPECT_EQ(VramBytesPerSecond("NVIDIA A10G"), 0) << "another card";
  EXPECT_EQ(VramBytesPerSecond("NVIDIA L40S"), 864e9);
  EXPECT_EQ(VramBytesPerSecond("NVIDIA GeForce RTX 4090 Laptop GPU"), 0);
  EXPECT_EQ(VramBytesPerSecond("NVIDIA GeForce RTX 4090 D"), 1008e9);
  EXPECT_EQ(VramBytesPerSecond(""), 0);
}

}  // namespace
}  // namespace moraine
