// Random codes by position: any part of a tensor can be made alone, by any thread, with the same result.
//
// A value is the sum of four random bytes (bell-shaped, 0 to 1020, mean 510, deviation 147.8), looked up in a
// table that holds the stored code of each sum: two values for one 64-bit mix, no arithmetic on floats, so
// that a disk is waited for rather than a processor.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

namespace moraine {

inline constexpr int kByteSums = 1021;
inline constexpr float kByteSumMean = 510.f;
inline constexpr float kByteSumDeviation = 147.80166f;  // sqrt(4 (256^2 - 1) / 12)

/// The stored bits of each sum.
using CodeTable = std::array<uint32_t, kByteSums>;

/// code(d) for the signed distance d = sum - 510 of each sum, -510 to 510.
CodeTable MakeTable(const std::function<uint32_t(float)>& code);

/// A stream of its own for each (seed, name).
uint64_t StreamKey(uint64_t seed, std::string_view name);

/// Fills `out` with the bytes from `offset` on of a tensor whose codes are `bits` wide (4, 8, 16 or 32; of
/// four bits, the first in the low half). `offset` is a multiple of 8.
void FillCodes(uint64_t key, const CodeTable& table, int bits, int64_t offset, std::span<std::byte> out);

}  // namespace moraine
