// Reads this machine into a Hardware: hwloc, /proc, /sys, NVML, the file system.
#pragma once

#include <string>

#include "runtime/core/result.h"
#include "runtime/hardware.h"

namespace moraine {

/// Where to read; all but the defaults is for tests.
struct HardwareSources {
  std::string root;                        // stands for "/" of /proc, /sys and /dev
  std::string topology;                    // a machine as hwloc describes synthetic ones; empty: this one
  std::string nvml = "libnvidia-ml.so.1";  // dlopen's name; empty: not tried
};

/// Everything but measured rates, which are assumed (runtime/assumed_rates.h). `model_path`: what the drive
/// is looked for behind; a path that does not exist stands for the nearest folder above it that does; empty:
/// no drive. Blocks a few milliseconds (NVML: some hundred), reads at most one block of one file, and leaves
/// nothing behind. Missing pieces are notes, no GPU is nothing. kHardware when processors or memory cannot be
/// read.
Result<Hardware> ReadHardware(const std::string& model_path, const HardwareSources& sources = {});

}  // namespace moraine
