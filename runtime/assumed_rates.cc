#include "runtime/assumed_rates.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <utility>

namespace moraine {
namespace {

constexpr double kGiga = 1e9;

// A core of ten years reads so much; two channels of DDR4-3200 (51.2 GB/s) give 40, four give 80. More than
// 16 cores on a node are a workstation's or server's, with four channels at least.
constexpr double kCoreRead = 10 * kGiga;
constexpr double kDesktopRead = 40 * kGiga;
constexpr double kWorkstationRead = 80 * kGiga;
constexpr int kDesktopCores = 16;

// Of what memory can be read at: what our kernels reach on it, and cards of what their maker states.
constexpr double kShareOfMemory = 0.85;
constexpr double kShareOfVram = 0.8;
constexpr double kUnknownVram = 300 * kGiga;
constexpr double kShareOfPcie = 0.8;

Figure Assumed(double value, std::string from) { return {value, Origin::kAssumed, std::move(from)}; }

std::string Giga(double value) { return fmt::format("{:.4g} GB/s", value / kGiga); }

// What one core does, by kernel row: two thirds to nine tenths of what measure.cc found on one core of a
// server of 2023 with AMX (docs/fitcheck.md), its kernels limited to each row in turn.
struct CoreRates {
  std::string_view isa;
  double floats;  // bytes/s of stored weights at one row: f32, f16, bf16
  double fp8;
  double integers;
  double prefill_64;    // FLOP/s of experts with 64 rows
  double prefill_512;   // and with 512
  double integers_512;  // of integer formats
  double attention;     // FLOP/s
};
constexpr std::array kCores = {
    CoreRates{"amx", 12e9, 10e9, 12e9, 300e9, 550e9, 350e9, 12e9},
    CoreRates{"avx512-vbmi", 12e9, 10e9, 12e9, 80e9, 90e9, 90e9, 12e9},
    CoreRates{"avx512-vnni", 12e9, 8e9, 12e9, 80e9, 90e9, 90e9, 12e9},
    CoreRates{"avx512", 12e9, 8e9, 9e9, 80e9, 90e9, 90e9, 12e9},
    CoreRates{"avx2", 12e9, 6e9, 9e9, 40e9, 40e9, 40e9, 10e9},
    CoreRates{"scalar", 1.5e9, 0.2e9, 0.12e9, 0.4e9, 0.4e9, 0.4e9, 2e9},
};

const CoreRates& CoreOf(std::string_view isa) {
  const auto* const at =
      std::find_if(kCores.begin(), kCores.end(), [&](const CoreRates& core) { return core.isa == isa; });
  return at == kCores.end() ? kCores.back() : *at;
}

struct FormatName {
  std::string_view name;
  WeightFormat format;
  int32_t group;
};
constexpr std::array kExpertFormats = {
    FormatName{"f32", WeightFormat::kF32, 0},
    FormatName{"f16", WeightFormat::kF16, 0},
    FormatName{"bf16", WeightFormat::kBf16, 0},
    FormatName{"fp8", WeightFormat::kFp8E4M3Block, 128},
    FormatName{"int8-row", WeightFormat::kInt8Group, 0},
    FormatName{"int8-g128", WeightFormat::kInt8Group, 128},
    FormatName{"int8-g64", WeightFormat::kInt8Group, 64},
    FormatName{"int8-g32", WeightFormat::kInt8Group, 32},
    FormatName{"int4-g128", WeightFormat::kInt4Group, 128},
    FormatName{"int4-g64", WeightFormat::kInt4Group, 64},
    FormatName{"int4-g32", WeightFormat::kInt4Group, 32},
};

double DecodeOf(const CoreRates& core, WeightFormat format) {
  if (format == WeightFormat::kFp8E4M3Block) return core.fp8;
  return IsInteger(format) ? core.integers : core.floats;
}

Figure NodeMemory(int cores) {
  const double most = cores > kDesktopCores ? kWorkstationRead : kDesktopRead;
  return Assumed(std::min(cores * kCoreRead, most),
                 fmt::format("{} core(s) x {}, at most {} a node{}", cores, Giga(kCoreRead), Giga(most),
                             cores > kDesktopCores ? "" : " of up to 16 cores"));
}

Figure DriveRead(const Drive& drive, double memory_read) {
  switch (drive.kind) {
    case DriveKind::kNvme:
      return Assumed(3 * kGiga,
                     "an NVMe drive on PCIe 3.0 x4; one on 4.0 or 5.0 gives two to four times as much");
    case DriveKind::kSsd:
      return Assumed(0.5 * kGiga, "a drive on SATA");
    case DriveKind::kDisk:
      return Assumed(0.15 * kGiga, "a hard disk: 0.2 GB/s in sequence, and a seek every expert's matrix");
    case DriveKind::kVirtual:
      return Assumed(0.5 * kGiga, "a virtual drive; what its host grants is not known");
    case DriveKind::kNetwork:
      return Assumed(0.1 * kGiga, "a network of 1 Gbit/s");
    case DriveKind::kMemory:
      return Assumed(0.5 * memory_read, "files in RAM: half of its rate, since reading them is copying");
    case DriveKind::kUnknown:
      break;
  }
  return Assumed(0.5 * kGiga, "a drive nobody knows");
}

Figure Pcie(const GpuDevice& gpu) {
  if (const double bytes_s = PcieBytesPerSecond(gpu.pcie_generation, gpu.pcie_width); bytes_s > 0) {
    return Assumed(bytes_s,
                   fmt::format("{} of PCIe {}.0 x{}", kShareOfPcie, gpu.pcie_generation, gpu.pcie_width));
  }
  return Assumed(PcieBytesPerSecond(3, 16),
                 fmt::format("{} of PCIe 3.0 x16; its link is not known", kShareOfPcie));
}

Figure Vram(const GpuDevice& gpu) {
  if (const double stated = VramBytesPerSecond(gpu.name); stated > 0)
    return Assumed(kShareOfVram * stated,
                   fmt::format("{} of the {} its maker states", kShareOfVram, Giga(stated)));
  return Assumed(kUnknownVram, "a card that is not in the table: as the slowest of recent ones");
}

struct Card {
  std::string_view name;  // part of the device's name
  double gb_s;            // as its maker states
};
// The longest name that is part of the device's counts.
constexpr std::array kCards = {
    Card{"RTX 3060", 360},          Card{"RTX 3060 Ti", 448},     Card{"RTX 3070", 448},
    Card{"RTX 3070 Ti", 608},       Card{"RTX 3080", 760},        Card{"RTX 3080 Ti", 912},
    Card{"RTX 3090", 936},          Card{"RTX 3090 Ti", 1008},    Card{"RTX 4060", 272},
    Card{"RTX 4060 Ti", 288},       Card{"RTX 4070", 504},        Card{"RTX 4070 Ti", 504},
    Card{"RTX 4070 Ti SUPER", 672}, Card{"RTX 4080", 717},        Card{"RTX 4080 SUPER", 736},
    Card{"RTX 4090", 1008},         Card{"RTX 5060", 448},        Card{"RTX 5060 Ti", 448},
    Card{"RTX 5070", 672},          Card{"RTX 5070 Ti", 896},     Card{"RTX 5080", 960},
    Card{"RTX 5090", 1792},         Card{"RTX A4000", 448},       Card{"RTX A4500", 640},
    Card{"RTX A5000", 768},         Card{"RTX A6000", 768},       Card{"RTX 4000 Ada", 360},
    Card{"RTX 4500 Ada", 432},      Card{"RTX 5000 Ada", 576},    Card{"RTX 6000 Ada", 960},
    Card{"RTX PRO 6000", 1597},     Card{"Tesla T4", 320},        Card{"NVIDIA L4", 300},
    Card{"NVIDIA L40", 864},        Card{"NVIDIA L40S", 864},     Card{"NVIDIA A10", 600},
    Card{"NVIDIA A30", 933},        Card{"NVIDIA A40", 696},      Card{"NVIDIA A100", 1555},
    Card{"A100 80GB", 1935},        Card{"A100-SXM4-80GB", 2039}, Card{"H100 PCIe", 2000},
    Card{"H100 80GB HBM3", 3350},   Card{"H100 NVL", 3900},       Card{"NVIDIA H200", 4800},
};

}  // namespace

double PcieBytesPerSecond(int generation, int width) {
  // Of one lane after its line code (8b/10b, from 3.0 on 128b/130b).
  constexpr std::array kLanes = {0.25, 0.5, 0.985, 1.969, 3.938, 7.563};
  if (generation < 1 || generation > static_cast<int>(kLanes.size()) || width < 1) return 0;
  return kShareOfPcie * kGiga * kLanes[static_cast<size_t>(generation - 1)] * width;
}

double VramBytesPerSecond(std::string_view name) {
  // Cards of the same number in notebooks have narrower memory.
  if (name.find("Laptop") != std::string_view::npos || name.find("Max-Q") != std::string_view::npos) return 0;
  Card best{"", 0};
  for (const Card& card : kCards) {
    const size_t at = name.find(card.name);
    if (at == std::string_view::npos || card.name.size() <= best.name.size()) continue;
    // "A10" is no part of "A100", "L4" none of "L40".
    const size_t end = at + card.name.size();
    const char next = end < name.size() ? name[end] : ' ';
    if ((next >= '0' && next <= '9') || (next >= 'A' && next <= 'Z')) continue;
    best = card;
  }
  return best.gb_s * kGiga;
}

void AssumeProcessorRates(std::string_view why, Hardware* hardware) {
  const CoreRates& core = CoreOf(hardware->isa);
  const int workers = std::max(1, hardware->workers);
  const double memory = kShareOfMemory * hardware->rates.memory_read.value;
  const std::string before = why.empty() ? "" : std::string(why) + ": ";
  const auto arithmetic = [&](double of_core) {
    return Assumed(workers * of_core, fmt::format("{}{} worker(s) x {:.3g} GFLOP/s ({})", before, workers,
                                                  of_core / kGiga, core.isa));
  };
  hardware->rates.experts.clear();
  for (const FormatName& format : kExpertFormats) {
    const double kernels = DecodeOf(core, format.format) * workers;
    ExpertRate rate{std::string(format.name), format.format, format.group, {}, {}};
    rate.decode_bytes_s =
        memory <= kernels
            ? Assumed(memory, fmt::format("{}{} of what memory can be read at", before, kShareOfMemory))
            : Assumed(kernels, fmt::format("{}{} worker(s) x {} ({})", before, workers,
                                           Giga(kernels / workers), core.isa));
    rate.prefill = {{64, arithmetic(core.prefill_64)},
                    {512, arithmetic(IsInteger(format.format) ? core.integers_512 : core.prefill_512)}};
    hardware->rates.experts.push_back(std::move(rate));
  }
  hardware->rates.attention_flops = arithmetic(core.attention);
}

Rates AssumedRates(const Hardware& hardware) {
  Hardware copy = hardware;
  copy.rates = {};
  Rates& rates = copy.rates;
  for (const HardwareNode& node : hardware.nodes) {
    rates.node_memory.push_back(NodeMemory(node.cores));
    rates.memory_read.value += rates.node_memory.back().value;
  }
  if (rates.node_memory.size() == 1) rates.memory_read.from = rates.node_memory.front().from;
  if (rates.node_memory.size() > 1) rates.memory_read.from = "its nodes together";
  rates.drive_read = DriveRead(hardware.drive, rates.memory_read.value);
  const bool gpu = !hardware.gpus.empty();
  rates.pcie = gpu ? Pcie(hardware.gpus.front()) : Assumed(0, "no GPU");
  rates.vram_read = gpu ? Vram(hardware.gpus.front()) : Assumed(0, "no GPU");
  AssumeProcessorRates("", &copy);
  return rates;
}

}  // namespace moraine
