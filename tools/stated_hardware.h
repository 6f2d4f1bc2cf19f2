// A machine that is not this one, or not yet: what the user states over what was read.
#pragma once

#include <cstdint>
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

enum class StatedFlags : uint8_t {
  kAll,
  kWithoutPolicyFlags,  // all but --ram, --vram and --isa
};

/// `stated` outlives the parse.
void AddStatedHardwareFlags(CLI::App& command, StatedHardware* stated, StatedFlags which = StatedFlags::kAll);

/// Puts what is stated into `hardware`, each figure kStated, after measured rates have been applied. What
/// follows from it is no longer measured here and says so in `from`: with another number of cores, rates of
/// experts and attention are taken from the measured ones by worker and memory is assumed anew; with another
/// ISA they are assumed anew; with other memory, experts of few rows are bound by it. kUsage names flag,
/// value and an example, and nothing has changed.
Status ApplyStatedHardware(const StatedHardware& stated, Hardware* hardware);

}  // namespace moraine::tools
