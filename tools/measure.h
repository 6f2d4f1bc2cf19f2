// Measures this machine: how fast memory, drive, experts and attention are, in some seconds.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/hardware.h"
#include "tools/bench/expert_bank.h"

namespace moraine::tools {

/// The drive's part, good for that drive only.
struct MeasuredDrive {
  std::string key;     // Drive::Key
  std::string date;    // "2026-11-25", UTC
  double bytes_s = 0;  // at the streamer's usual depth
  std::vector<DepthRate> by_depth;
  std::string note;  // what bounds trust in it: a small file, a host's cache
};

/// What was measured; zeros and empty lists were not.
struct MeasuredRates {
  std::string fingerprint;  // Hardware::fingerprint of the machine
  std::string date;         // of the processor's part
  double memory_read = 0;   // bytes/s
  std::vector<double> node_memory;
  std::vector<ExpertRate> experts;
  double attention_flops = 0;
  std::vector<MeasuredDrive> drives;
  std::vector<std::string> notes;  // what was left out and why
};

struct MeasureOptions {
  double seconds = 8;                     // in all, about
  std::vector<FormatChoice> formats;      // experts to run; empty: fp8, bf16, int8-g128, int4-g64, int4-g32
  int64_t bank_bytes = int64_t{3} << 29;  // of experts and for the memory's own rate; less where RAM is short
  int64_t file_bytes = int64_t{1} << 30;  // of the temporary file, where there is no model to read
  bool drive = true;
  bool processor = true;
};

/// Runs `hardware.workers` workers on kernels up to `hardware.isa`; `hardware` is this machine as it was
/// read, with those two and the fingerprint changed where a policy says so.
///
/// `path`: a model's folder, whose weight files are read; where they are less than 256 MiB, a temporary file
/// is written there, which has no name and is gone however this ends. Empty: no drive. Nothing goes through
/// the page cache. A drive that cannot be measured is a note, unless it was all that was asked for. Blocks;
/// the work is done by threads of its own. kDoesNotFit when memory or the folder's space is short, kIo when
/// the drive fails, kInterrupted.
Result<MeasuredRates> MeasureHardware(const Hardware& hardware, const std::string& path,
                                      const MeasureOptions& options);

/// Puts `measured` over all of `hardware->rates`, and its experts and attention over what is assumed from the
/// measured memory. The drive's part where its key is that of `hardware->drive`. Stated figures come after.
/// False, and nothing changed, when the fingerprint is another.
bool ApplyMeasured(const MeasuredRates& measured, Hardware* hardware);

}  // namespace moraine::tools
