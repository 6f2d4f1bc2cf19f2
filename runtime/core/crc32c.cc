#include "runtime/core/crc32c.h"

#include <array>
#include <cstring>

namespace moraine {
namespace {

using Tables = std::array<std::array<uint32_t, 256>, 8>;

// tables[n][b]: what byte b does to the remainder when n more bytes follow in the same word.
constexpr Tables MakeTables() {
  Tables tables{};
  for (uint32_t b = 0; b < 256; ++b) {
    uint32_t rest = b;
    for (int bit = 0; bit < 8; ++bit) rest = (rest >> 1) ^ ((rest & 1) != 0 ? 0x82F63B78U : 0);
    tables[0][b] = rest;
  }
  for (size_t n = 1; n < tables.size(); ++n)
    for (uint32_t b = 0; b < 256; ++b)
      tables[n][b] = (tables[n - 1][b] >> 8) ^ tables[0][tables[n - 1][b] & 0xFF];
  return tables;
}
constexpr Tables kTables = MakeTables();

}  // namespace

uint32_t Crc32c(std::span<const std::byte> bytes, uint32_t before) {
  uint32_t rest = ~before;
  size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, 8);
    word ^= rest;
    rest = 0;
    for (size_t n = 0; n < 8; ++n) rest ^= kTables[7 - n][(word >> (8 * n)) & 0xFF];
  }
  for (; at < bytes.size(); ++at)
    rest = (rest >> 8) ^ kTables[0][(rest ^ static_cast<uint32_t>(bytes[at])) & 0xFF];
  return ~rest;
}

}  // namespace moraine
