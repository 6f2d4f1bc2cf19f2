// A machine that is not this one, or not yet: what the user states over what was read.
#pragma once

#include <string>

#include "runtime/core/result.h"
#include "runtime/hardware.h"

namespace CLI {
class App;
}

namespace moraine::tools {

/// The flags as given; empty: not stated. --ram and --isa belong to policies too (memory.ram, cpu.isa): a
/// caller that has them from there fills them in itself and adds the flags without them.
struct StatedHardware {
  std::string mem_bw;   // "80GB/s"
  std::string nvme;     // "7GB/s"
  std::string pcie;     // "4x16": generation x lanes
  std::string vram;     // "24GiB"
  std::string vram_bw;  // "1000GB/s"
  std::string ram;      // "128GiB"
  std::string cores;    // "16"
  std::string isa;      // "avx512"

  bool any() const;
};

enum class StatedFlags { kAll, kWithoutPolicyFlags /* --ram, --vram, --isa */ };

/// `stated` outlives the parse.
void AddStatedHardwareFlags(CLI::App& command, StatedHardware* stated, StatedFlags which = StatedFlags::kAll);

/// Puts what is stated into `hardware`, each figure kStated, after measured rates have been applied. What
/// depends on it is no longer measured: with another number of cores or ISA, rates of experts and attention
/// are scaled or assumed anew, with other memory the rate of experts is bound by it, and `from` says so.
/// kUsage names flag, value and an example.
Status ApplyStatedHardware(const StatedHardware& stated, Hardware* hardware);

/// "80GB/s", "7 GB/s", "2GiB/s" -> bytes a second, more than 0. kUsage says what was expected of `text`; the
/// caller says whose it is.
Result<double> ParseRate(const std::string& text);

}  // namespace moraine::tools
