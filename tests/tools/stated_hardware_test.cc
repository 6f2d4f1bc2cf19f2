// tools/stated_hardware.h, and tools/measure.h's ApplyMeasured before it.
#include "tools/stated_hardware.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>

#include "runtime/assumed_rates.h"
#include "tools/measure.h"

namespace moraine::tools {
namespace {

using testing::HasSubstr;

constexpr int64_t kGiB = int64_t{1} << 30;

// Two cores at 32 GB/s, whose FP8 experts are bound by their kernels.
Hardware Machine() {
  Hardware h;
  h.cpu_model = "A CPU";
  h.packages = 1;
  h.nodes = {{.os_index = 0, .cores = 2, .memory_bytes = 24 * kGiB}};
  h.cores = h.workers = 2;
  h.hardware_threads = 4;
  h.isa = "avx512-vbmi";
  h.ram = {20 * kGiB, "MemAvailable"};
  h.ram_total = {24.0 * static_cast<double>(kGiB), Origin::kRead, "MemTotal"};
  h.drive.device = "vda";
  h.drive.filesystem = "ext4";
  h.rates = AssumedRates(h);
  h.fingerprint = Fingerprint(h);
  return h;
}

MeasuredRates Measurement() {
  const auto measured = [](double value) { return Figure{value, Origin::kMeasured, "measured 2026-11-25"}; };
  MeasuredRates rates;
  rates.fingerprint = Machine().fingerprint;
  rates.date = "2026-11-25";
  rates.memory_read = 32e9;
  rates.node_memory = {32e9};
  rates.attention_flops = 40e9;
  rates.experts = {{"fp8", WeightFormat::kFp8E4M3Block, 128, measured(22e9), {{64, measured(600e9)}}}};
  rates.drives = {{"vda, no model, ext4", "2026-11-24", 1.5e9, {{1, 1e9}, {16, 1.5e9}}, "its host caches"}};
  return rates;
}

Hardware Measured() {
  Hardware h = Machine();
  EXPECT_TRUE(ApplyMeasured(Measurement(), &h));
  return h;
}

const ExpertRate& Fp8(const Hardware& h) {
  return *FindExpertRate(h.rates, WeightFormat::kFp8E4M3Block, 128);
}

Hardware With(const StatedHardware& stated, Hardware h = Measured()) {
  const Status status = ApplyStatedHardware(stated, &h);
  EXPECT_TRUE(status.has_value()) << status.error().message;
  return h;
}

TEST(ApplyMeasured, MeasuredTakesThePlaceOfAssumed) {
  const Hardware h = Measured();
  EXPECT_EQ(h.rates.memory_read.value, 32e9);
  EXPECT_EQ(h.rates.memory_read.origin, Origin::kMeasured);
  EXPECT_EQ(h.rates.memory_read.from, "measured 2026-11-25");
  EXPECT_EQ(h.rates.node_memory[0].value, 32e9);
  EXPECT_EQ(Fp8(h).decode_bytes_s.value, 22e9);
  EXPECT_EQ(h.rates.attention_flops.value, 40e9);
  EXPECT_EQ(h.rates.drive_read.value, 1.5e9);
  EXPECT_EQ(h.rates.drive_read.from, "measured 2026-11-24, its host caches");
  EXPECT_EQ(h.rates.drive_by_depth.size(), 2u);
  const ExpertRate* other = FindExpertRate(h.rates, WeightFormat::kInt4Group, 64);
  EXPECT_EQ(other->decode_bytes_s.origin, Origin::kAssumed) << "what was not measured";
}

TEST(ApplyMeasured, AnotherMachinesOrDrivesFiguresStayAway) {
  MeasuredRates foreign = Measurement();
  foreign.fingerprint += "?";
  Hardware h = Machine();
  EXPECT_FALSE(ApplyMeasured(foreign, &h));
  EXPECT_EQ(h.rates.memory_read.origin, Origin::kAssumed);
  h.drive.device = "vdb";
  EXPECT_TRUE(ApplyMeasured(Measurement(), &h));
  EXPECT_EQ(h.rates.drive_read.origin, Origin::kAssumed);
}

TEST(StatedHardware, NothingStatedChangesNothing) {
  const Hardware h = With({});
  EXPECT_FALSE(StatedHardware().any());
  EXPECT_EQ(h.fingerprint, Measured().fingerprint);
  EXPECT_EQ(h.cpu_origin, Origin::kRead);
  EXPECT_EQ(Fp8(h).decode_bytes_s.origin, Origin::kMeasured);
  EXPECT_EQ(With({.isa = "auto"}).cpu_origin, Origin::kRead);
}

TEST(StatedHardware, FiguresAreTakenAsStated) {
  const Hardware h = With({.mem_bw = "80GB/s",
                           .nvme = "7 GB/s",
                           .pcie = "4x16",
                           .vram = "24GiB",
                           .vram_bw = "1000GB/s",
                           .ram = "128GiB"});
  EXPECT_EQ(h.rates.memory_read.value, 80e9);
  EXPECT_EQ(h.rates.memory_read.origin, Origin::kStated);
  EXPECT_EQ(h.rates.memory_read.from, "--mem-bw");
  EXPECT_EQ(h.rates.node_memory[0].value, 80e9);
  EXPECT_EQ(h.rates.drive_read.value, 7e9);
  EXPECT_EQ(h.rates.drive_read.origin, Origin::kStated);
  EXPECT_TRUE(h.rates.drive_by_depth.empty());
  ASSERT_EQ(h.gpus.size(), 1u);
  EXPECT_EQ(h.gpus[0].memory_bytes, 24 * kGiB);
  EXPECT_EQ(h.gpus[0].pcie_width, 16);
  EXPECT_FALSE(h.gpus[0].driver.empty()) << "a card that is of use";
  EXPECT_NEAR(h.rates.pcie.value, 25.2e9, 0.1e9);
  EXPECT_EQ(h.rates.pcie.origin, Origin::kStated);
  EXPECT_EQ(h.rates.vram_read.value, 1000e9);
  EXPECT_EQ(h.ram.bytes, 128 * kGiB);
  EXPECT_EQ(h.ram.source, "--ram");
  EXPECT_EQ(h.ram_total.value, 128.0 * static_cast<double>(kGiB));
  EXPECT_EQ(h.cpu_origin, Origin::kRead);
  EXPECT_EQ(With({.ram = "4GiB"}).ram_total.origin, Origin::kRead) << "a lower ceiling is no other machine";
}

TEST(StatedHardware, MoreCoresAreNoLongerMeasured) {
  const Hardware h = With({.cores = "16"});
  EXPECT_EQ(h.cores, 16);
  EXPECT_EQ(h.workers, 16);
  EXPECT_EQ(h.hardware_threads, 32);
  EXPECT_EQ(h.nodes[0].cores, 16);
  EXPECT_EQ(h.cpu_origin, Origin::kStated);
  EXPECT_NE(h.fingerprint, Measured().fingerprint);
  EXPECT_EQ(h.rates.memory_read.value, 40e9);
  EXPECT_EQ(h.rates.memory_read.origin, Origin::kAssumed);
  // No longer bound by kernels: 8 x 22 GB/s, of which memory allows 0.85 x 40.
  EXPECT_DOUBLE_EQ(Fp8(h).decode_bytes_s.value, 0.85 * 40e9);
  EXPECT_EQ(Fp8(h).decode_bytes_s.origin, Origin::kAssumed);
  EXPECT_THAT(Fp8(h).decode_bytes_s.from,
              HasSubstr("with 2 worker(s) at 32 GB/s, taken to 16 at 40 GB/s (--cores)"));
  EXPECT_DOUBLE_EQ(Fp8(h).prefill[0].flops_s.value, 8 * 600e9);
  EXPECT_EQ(Fp8(h).prefill[0].flops_s.origin, Origin::kAssumed);
  EXPECT_DOUBLE_EQ(h.rates.attention_flops.value, 8 * 40e9);
}

TEST(StatedHardware, FewerCoresReadLess) {
  const Hardware h = With({.cores = "1"});
  EXPECT_DOUBLE_EQ(h.rates.memory_read.value, 16e9);
  EXPECT_THAT(h.rates.memory_read.from, HasSubstr("--cores"));
  EXPECT_DOUBLE_EQ(Fp8(h).decode_bytes_s.value, 11e9);
  EXPECT_DOUBLE_EQ(Fp8(h).prefill[0].flops_s.value, 300e9);
}

TEST(StatedHardware, MoreCoresReadNoLessThanWasMeasured) {
  EXPECT_EQ(With({.cores = "3"}).rates.memory_read.value, 32e9);
}

TEST(StatedHardware, TheSameCoresKeepTheirFigures) {
  const Hardware h = With({.cores = "2"});
  EXPECT_EQ(h.rates.memory_read.origin, Origin::kMeasured);
  EXPECT_EQ(Fp8(h).decode_bytes_s.origin, Origin::kMeasured);
}

TEST(StatedHardware, OtherMemoryBindsExpertsOfFewRowsOnly) {
  const Hardware slow = With({.mem_bw = "10GB/s"});
  EXPECT_DOUBLE_EQ(Fp8(slow).decode_bytes_s.value, 8.5e9);
  EXPECT_EQ(Fp8(slow).decode_bytes_s.origin, Origin::kAssumed);
  EXPECT_EQ(Fp8(slow).prefill[0].flops_s.origin, Origin::kMeasured);
  EXPECT_EQ(slow.rates.attention_flops.origin, Origin::kMeasured);
  const Hardware fast = With({.mem_bw = "300GB/s"});
  EXPECT_DOUBLE_EQ(Fp8(fast).decode_bytes_s.value, 22e9) << "its kernels bind it";
}

TEST(StatedHardware, AnotherIsaIsAssumedAnew) {
  const Hardware h = With({.isa = "avx2"});
  EXPECT_EQ(h.isa, "avx2");
  EXPECT_EQ(h.rates.memory_read.origin, Origin::kMeasured);
  EXPECT_EQ(Fp8(h).decode_bytes_s.value, 12e9);
  EXPECT_EQ(Fp8(h).decode_bytes_s.origin, Origin::kAssumed);
  EXPECT_THAT(Fp8(h).decode_bytes_s.from, HasSubstr("--isa: 2 worker(s)"));
  EXPECT_EQ(h.rates.attention_flops.origin, Origin::kAssumed);
}

TEST(StatedHardware, CoresAreSharedAmongNodes) {
  Hardware two = Machine();
  two.nodes = {{0, 1, 0}, {1, 1, 0}};
  const Hardware h = With({.cores = "5"}, two);
  EXPECT_EQ(h.nodes[0].cores, 3);
  EXPECT_EQ(h.nodes[1].cores, 2);
  EXPECT_EQ(h.rates.node_memory.size(), 2u);
  EXPECT_EQ(With({.cores = "1"}, two).nodes.size(), 1u);
  EXPECT_EQ(With({.mem_bw = "100GB/s", .cores = "4"}, two).rates.node_memory[1].value, 50e9);
}

TEST(StatedHardware, ErrorsNameFlagValueAndExample) {
  const auto refused = [](const StatedHardware& stated, const std::string& flag, const std::string& example) {
    Hardware h = Measured();
    const Status status = ApplyStatedHardware(stated, &h);
    ASSERT_FALSE(status.has_value()) << flag;
    EXPECT_EQ(status.error().kind, ErrorKind::kUsage);
    EXPECT_THAT(status.error().message, HasSubstr(flag));
    EXPECT_THAT(status.error().message, HasSubstr(example));
    EXPECT_EQ(h.ram.source, "MemAvailable") << "nothing has changed";
  };
  refused({.mem_bw = "80", .ram = "1GiB"}, "--mem-bw \"80\"", "80GB/s");
  refused({.mem_bw = "80GB"}, "--mem-bw", "80GB/s");
  refused({.nvme = "0GB/s"}, "--nvme", "GB/s");
  refused({.nvme = "-7GB/s"}, "--nvme", "GB/s");
  refused({.vram_bw = "fast"}, "--vram-bw", "GB/s");
  refused({.vram = "24"}, "--vram \"24\"", "8GiB");
  refused({.vram = "0GiB"}, "--vram", "24GiB");
  refused({.ram = "much"}, "--ram", "8GiB");
  for (const char* cores : {"0", "-1", "1025", "4.5", "four", "16 "})
    refused({.cores = cores}, "--cores", "16");
  refused({.isa = "sse9"}, "--isa \"sse9\"", "avx512-vnni");
  for (const char* pcie : {"4", "x16", "4x", "0x16", "7x16", "4x0", "4x64", "4x16x1"})
    refused({.pcie = pcie, .vram = "24GiB"}, "--pcie", "4x16");
  refused({.pcie = "4x16"}, "--pcie", "--vram 24GiB");
  refused({.vram_bw = "1000GB/s"}, "--vram-bw", "--vram 24GiB");
}

TEST(StatedHardware, FlagsAreParsed) {
  CLI::App app;
  StatedHardware stated;
  AddStatedHardwareFlags(app, &stated);
  app.parse(
      "--mem-bw 80GB/s --nvme 7GB/s --pcie 4x16 --cores 16 --isa avx512 --vram 24GiB --ram 128GiB --vram-bw "
      "1000GB/s");
  EXPECT_EQ(stated.mem_bw, "80GB/s");
  EXPECT_EQ(stated.isa, "avx512");
  EXPECT_EQ(stated.vram_bw, "1000GB/s");
  EXPECT_TRUE(stated.any());
  CLI::App fewer;
  AddStatedHardwareFlags(fewer, &stated, StatedFlags::kWithoutPolicyFlags);
  EXPECT_THROW(fewer.parse("--isa avx2"), CLI::ParseError);
}

}  // namespace
}  // namespace moraine::tools
