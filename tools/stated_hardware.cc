#include "tools/stated_hardware.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "cpu/kernel_table.h"
#include "policies/units.h"
#include "runtime/assumed_rates.h"
#include "runtime/core/printable.h"

namespace moraine::tools {
namespace {

constexpr int64_t kMostCores = 1024;
constexpr double kShareOfMemory = 0.85;  // that experts reach of it, as runtime/assumed_rates.cc has it

Figure Stated(double value, std::string from) { return {value, Origin::kStated, std::move(from)}; }
Figure Assumed(double value, std::string from) { return {value, Origin::kAssumed, std::move(from)}; }

// The parsed values; empty: not stated.
struct Values {
  std::optional<double> mem_bw;
  std::optional<double> nvme;
  std::optional<double> vram_bw;
  std::optional<int64_t> vram;
  std::optional<int64_t> ram;
  std::optional<int> cores;
  std::optional<std::string> isa;
  std::optional<std::pair<int, int>> pcie;  // generation, lanes
};

// Reads one flag's text with `parse`, naming the flag in its error.
template <typename Value, typename Parse>
Status Take(const char* flag, const std::string& text, std::optional<Value>* value, Parse&& parse) {
  if (text.empty()) return {};
  auto parsed = parse(text);
  if (!parsed.has_value()) return Fail(ErrorKind::kUsage, fmt::format("{} {}", flag, parsed.error().message));
  *value = *std::move(parsed);
  return {};
}

Result<int64_t> ParseMemory(const std::string& text) {
  MORAINE_ASSIGN_OR_RETURN(const int64_t bytes, ParseBytes(text));
  if (bytes == 0)
    return Fail(ErrorKind::kUsage,
                fmt::format("\"{}\"; expected more than nothing, such as 24GiB", Printable(text, 60)));
  return bytes;
}

// A decimal number that is all of `text`.
std::optional<int> ParseNumber(std::string_view text) {
  int number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && rest == end ? std::optional(number) : std::nullopt;
}

Result<int> ParseCores(const std::string& text) {
  const std::optional<int> cores = ParseNumber(text);
  if (!cores || *cores < 1 || *cores > kMostCores) {
    return Fail(ErrorKind::kUsage,
                fmt::format("\"{}\"; expected 1 to {} cores, such as 16", Printable(text, 60), kMostCores));
  }
  return *cores;
}

Result<std::string> ParseIsa(const std::string& text) {
  std::string names;
  for (int isa = 0; isa < kIsas; ++isa) {
    const std::string_view name = Name(static_cast<Isa>(isa));
    if (text == name) return text;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
  }
  return Fail(ErrorKind::kUsage,
              fmt::format("\"{}\"; expected one of {}, such as avx512", Printable(text, 60), names));
}

Result<std::pair<int, int>> ParsePcie(const std::string& text) {
  const size_t x = text.find('x');
  const std::optional<int> generation = ParseNumber(std::string_view(text).substr(0, x));
  const std::optional<int> lanes =
      x == std::string::npos ? std::nullopt : ParseNumber(std::string_view(text).substr(x + 1));
  if (!generation || !lanes || *lanes > 32 || PcieBytesPerSecond(*generation, *lanes) == 0) {
    return Fail(ErrorKind::kUsage,
                fmt::format("\"{}\"; expected a generation of PCIe (1 to 6) and its lanes, such as 4x16",
                            Printable(text, 60)));
  }
  return std::pair(*generation, *lanes);
}

Result<Values> Parse(const StatedHardware& stated, const Hardware& hardware) {
  Values v;
  MORAINE_RETURN_IF_ERROR(Take("--mem-bw", stated.mem_bw, &v.mem_bw, ParseRate));
  MORAINE_RETURN_IF_ERROR(Take("--nvme", stated.nvme, &v.nvme, ParseRate));
  MORAINE_RETURN_IF_ERROR(Take("--vram-bw", stated.vram_bw, &v.vram_bw, ParseRate));
  MORAINE_RETURN_IF_ERROR(Take("--vram", stated.vram, &v.vram, ParseMemory));
  MORAINE_RETURN_IF_ERROR(Take("--ram", stated.ram, &v.ram, ParseMemory));
  MORAINE_RETURN_IF_ERROR(Take("--cores", stated.cores, &v.cores, ParseCores));
  MORAINE_RETURN_IF_ERROR(Take("--isa", stated.isa == "auto" ? "" : stated.isa, &v.isa, ParseIsa));
  MORAINE_RETURN_IF_ERROR(Take("--pcie", stated.pcie, &v.pcie, ParsePcie));
  if (hardware.gpus.empty() && !v.vram && (v.pcie || v.vram_bw)) {
    return Fail(
        ErrorKind::kUsage,
        fmt::format("{} is about a GPU, and this machine has none; state one with it, such as --vram 24GiB",
                    v.pcie ? "--pcie" : "--vram-bw"));
  }
  return v;
}

void StateRam(int64_t bytes, Hardware* h) {
  h->ram = {bytes, "--ram"};
  h->ram_note.clear();
  if (static_cast<double>(bytes) <= h->ram_total.value) return;
  h->ram_total = Stated(static_cast<double>(bytes), "--ram");
  h->topology_memory_bytes = bytes;
  for (HardwareNode& node : h->nodes) node.memory_bytes = bytes / static_cast<int64_t>(h->nodes.size());
}

// The same nodes with `cores` in all; no more nodes than cores.
void StateCores(int cores, Hardware* h) {
  const int threads_per_core = h->cores > 0 ? std::max(1, h->hardware_threads / h->cores) : 1;
  if (h->nodes.empty()) h->nodes.push_back({});
  if (static_cast<int>(h->nodes.size()) > cores) h->nodes.resize(static_cast<size_t>(cores));
  const int nodes = static_cast<int>(h->nodes.size());
  for (int n = 0; n < nodes; ++n)
    h->nodes[static_cast<size_t>(n)].cores = cores / nodes + (n < cores % nodes ? 1 : 0);
  h->cores = h->workers = cores;
  h->hardware_threads = cores * threads_per_core;
  h->cpu_quota = 0;
}

void StateMemoryRate(double bytes_s, Hardware* h) {
  h->rates.memory_read = Stated(bytes_s, "--mem-bw");
  h->rates.node_memory.clear();
  for (const HardwareNode& node : h->nodes)
    h->rates.node_memory.push_back(
        Stated(bytes_s * node.cores / std::max(1, h->cores), "--mem-bw, by cores"));
}

// Memory of a machine with other cores: fewer read less, more read no less than was measured.
void TakeMemoryOver(const Hardware& before, Hardware* h) {
  const Figure& old = before.rates.memory_read;
  Rates anew = AssumedRates(*h);
  if (old.origin != Origin::kAssumed && h->cores < before.cores) {
    const double part = static_cast<double>(h->cores) / before.cores;
    anew.memory_read =
        Assumed(old.value * part, fmt::format("--cores: {:.2g} of what was {}", part, old.from));
  } else if (old.origin != Origin::kAssumed && old.value > anew.memory_read.value) {
    anew.memory_read =
        Assumed(old.value, fmt::format("--cores: at least what {} core(s) read, {}", before.cores, old.from));
  } else {
    anew.memory_read.from = "--cores: " + anew.memory_read.from;
  }
  for (size_t n = 0; n < h->nodes.size(); ++n) {
    anew.node_memory[n] =
        Assumed(anew.memory_read.value * h->nodes[n].cores / h->cores, anew.memory_read.from);
  }
  h->rates.memory_read = anew.memory_read;
  h->rates.node_memory = anew.node_memory;
}

// What the kernels could do if memory were no bound.
const Rates& KernelRates(Hardware* copy) {
  copy->rates.memory_read.value = 1e18;
  AssumeProcessorRates("", copy);
  return copy->rates;
}

// Rates of experts and attention on `h`, whose cores, ISA or memory are not those of `before`.
void TakeProcessorOver(const Hardware& before, const std::string& flags, Hardware* h) {
  const std::vector<ExpertRate> measured = before.rates.experts;
  const Figure attention = before.rates.attention_flops;
  AssumeProcessorRates(flags, h);
  if (h->isa != before.isa) return;

  const double by_workers = static_cast<double>(h->workers) / std::max(1, before.workers);
  const std::string how =
      fmt::format("with {} worker(s) at {:.3g} GB/s, taken to {} at {:.3g} GB/s ({})", before.workers,
                  before.rates.memory_read.value / 1e9, h->workers, h->rates.memory_read.value / 1e9, flags);
  const auto scaled = [&](const Figure& old) {
    return by_workers == 1 ? old : Assumed(old.value * by_workers, old.from + " " + how);
  };
  Hardware unbound = *h;
  KernelRates(&unbound);
  for (const ExpertRate& old : measured) {
    if (old.decode_bytes_s.origin != Origin::kMeasured) continue;
    ExpertRate rate = old;
    const double share = old.decode_bytes_s.value / std::max(1.0, before.rates.memory_read.value);
    const ExpertRate* kernels = FindExpertRate(unbound.rates, old.format, old.group);
    const double most = std::max(old.decode_bytes_s.value * by_workers,
                                 kernels == nullptr ? 0 : kernels->decode_bytes_s.value);
    rate.decode_bytes_s =
        Assumed(std::min(most, std::max(share, kShareOfMemory) * h->rates.memory_read.value),
                old.decode_bytes_s.from + " " + how);
    for (PrefillRate& prefill : rate.prefill) prefill.flops_s = scaled(prefill.flops_s);
    const auto at = std::find_if(
        h->rates.experts.begin(), h->rates.experts.end(),
        [&](const ExpertRate& other) { return other.format == old.format && other.group == old.group; });
    if (at == h->rates.experts.end()) {
      h->rates.experts.push_back(std::move(rate));
    } else {
      *at = std::move(rate);
    }
  }
  if (attention.origin == Origin::kMeasured) h->rates.attention_flops = scaled(attention);
}

void StateProcessor(const Values& v, Hardware* h) {
  const Hardware before = *h;
  std::string flags;
  const auto name = [&](const char* flag) { flags += (flags.empty() ? "" : ", ") + std::string(flag); };
  const bool cores = v.cores && *v.cores != before.workers;
  if (v.cores) StateCores(*v.cores, h);
  if (cores) name("--cores");
  if (v.isa && *v.isa != before.isa) name("--isa");
  if (v.isa) h->isa = *v.isa;
  if (v.mem_bw) {
    StateMemoryRate(*v.mem_bw, h);
    name("--mem-bw");
  } else if (cores) {
    TakeMemoryOver(before, h);
  }
  if (v.cores || v.isa) h->cpu_origin = Origin::kStated;
  if (!flags.empty()) TakeProcessorOver(before, flags, h);
}

void StateGpu(const Values& v, Hardware* h) {
  if (!v.vram && !v.pcie && !v.vram_bw) return;
  if (h->gpus.empty()) h->gpus.push_back({.name = "a GPU as stated"});
  GpuDevice& gpu = h->gpus.front();
  if (v.vram) {
    gpu.memory_bytes = gpu.free_bytes = *v.vram;
    gpu.from = "--vram";
    if (gpu.driver.empty()) gpu.driver = "as stated";
  }
  if (v.pcie) std::tie(gpu.pcie_generation, gpu.pcie_width) = *v.pcie;
  const Rates assumed = AssumedRates(*h);
  if (h->rates.pcie.value == 0 || v.pcie) h->rates.pcie = assumed.pcie;
  if (v.pcie) h->rates.pcie = Stated(assumed.pcie.value, "--pcie: " + assumed.pcie.from);
  if (h->rates.vram_read.value == 0) h->rates.vram_read = assumed.vram_read;
  if (v.vram_bw) h->rates.vram_read = Stated(*v.vram_bw, "--vram-bw");
}

}  // namespace

bool StatedHardware::any() const {
  const std::string* const all[] = {&mem_bw, &nvme, &pcie, &vram, &vram_bw, &ram, &cores, &isa};
  return std::any_of(std::begin(all), std::end(all), [](const std::string* text) { return !text->empty(); });
}

void AddStatedHardwareFlags(CLI::App& command, StatedHardware* stated, StatedFlags which) {
  const auto add = [&](const char* flag, std::string* text, const char* type, const char* help) {
    command.add_option(flag, *text, help)->type_name(type)->group("A machine as stated");
  };
  add("--cores", &stated->cores, "N", "Cores, instead of this machine's");
  add("--mem-bw", &stated->mem_bw, "RATE", "Rate at which all cores read memory, e.g. 80GB/s");
  add("--nvme", &stated->nvme, "RATE", "Rate at which the drive is read, e.g. 7GB/s");
  add("--pcie", &stated->pcie, "GxN", "The GPU's link: generation and lanes, e.g. 4x16");
  add("--vram-bw", &stated->vram_bw, "RATE", "Rate of the GPU's memory, e.g. 1000GB/s");
  if (which == StatedFlags::kWithoutPolicyFlags) return;
  add("--ram", &stated->ram, "SIZE", "Memory, e.g. 128GiB");
  add("--vram", &stated->vram, "SIZE", "The GPU's memory, e.g. 24GiB");
  add("--isa", &stated->isa, "NAME", "Kernels: amx, avx512-vbmi, avx512-vnni, avx512, avx2, scalar");
}

Status ApplyStatedHardware(const StatedHardware& stated, Hardware* hardware) {
  MORAINE_ASSIGN_OR_RETURN(const Values v, Parse(stated, *hardware));
  if (v.ram) StateRam(*v.ram, hardware);
  StateProcessor(v, hardware);
  if (v.nvme) {
    hardware->rates.drive_read = Stated(*v.nvme, "--nvme");
    hardware->rates.drive_by_depth.clear();
    hardware->drive.kind = DriveKind::kNvme;
  }
  StateGpu(v, hardware);
  hardware->fingerprint = Fingerprint(*hardware);
  return {};
}

}  // namespace moraine::tools
