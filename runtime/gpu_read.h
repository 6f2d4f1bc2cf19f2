// Which GPUs are here: through NVML where a driver runs, else by what the PCI bus says of cards without one.
#pragma once

#include <string>
#include <vector>

#include "runtime/hardware.h"

namespace moraine {

struct GpuList {
  std::vector<GpuDevice> gpus;     // in NVML's order
  std::vector<std::string> notes;  // why a card that is there is of no use
};

/// Never fails; no GPU is an empty list without a note. `library` is dlopen's name of NVML (empty: not
/// tried), loaded for as long as the call lasts; `root` stands for "/" of /proc and /sys in tests.
GpuList ReadGpus(const std::string& library, const std::string& root = "");

}  // namespace moraine
