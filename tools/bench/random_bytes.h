// Bytes to write to a drive that is to be measured.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "runtime/core/result.h"

namespace moraine::tools {

inline constexpr int64_t kRandomPiece = int64_t{8} << 20;

/// Writes `bytes` to the beginning of `fd`, a piece at a time, and waits until the drive has them; stops
/// after the first piece that ends later than `seconds`. How many it wrote. No two blocks are alike, so
/// nothing below can keep one copy of them. With O_DIRECT, `bytes` is a multiple of a block. kIo names `path`
/// and what the system refused; kInterrupted.
Result<int64_t> WriteRandom(int fd, const std::string& path, int64_t bytes,
                            double seconds = std::numeric_limits<double>::infinity());

}  // namespace moraine::tools
