// fio as the yardstick of a drive: the same files, read at random by its io_uring engine.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "runtime/core/file.h"
#include "runtime/core/result.h"

namespace moraine::tools {

struct FioShape {
  int64_t block_kib = 1024;
  int depth = 16;
  int64_t run_bytes =
      0;  // read one behind the other before the next random place; less than a block: one block
};

struct FioReading {
  double bytes_s = 0;
  double core = 0;  // CPU, as a part of one core
};

/// True when there is a program fio.
bool HasFio();

/// Reads `files` at random places, whole blocks, O_DIRECT, for about `seconds` after `ramp_seconds` that do
/// not count. Blocks. kIo: what fio said.
Result<FioReading> RunFio(const std::vector<File>& files, const FioShape& shape, double ramp_seconds,
                          double seconds);

}  // namespace moraine::tools
