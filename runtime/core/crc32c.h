// CRC-32C (Castagnoli, RFC 3720 appendix B.4): the checksum of files that we write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace moraine {

/// Of `bytes`; `before` goes on from the checksum of what came before them. About 1 GB/s.
uint32_t Crc32c(std::span<const std::byte> bytes, uint32_t before = 0);

}  // namespace moraine
