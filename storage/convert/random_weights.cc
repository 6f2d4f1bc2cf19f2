#include "storage/convert/random_weights.h"

#include <algorithm>
#include <cstring>

#include "runtime/core/check.h"

namespace moraine {
namespace {

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014) over a counter.
uint64_t Mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

// The sums of the low and of the high four bytes.
struct Sums {
  uint32_t low, high;
};
Sums SumsAt(uint64_t key, uint64_t index) {
  const uint64_t random = Mix(key + index * 0x9E3779B97F4A7C15u);
  const uint64_t pairs = (random & 0x00FF00FF00FF00FFu) + (random >> 8 & 0x00FF00FF00FF00FFu);
  const uint64_t sums = pairs + (pairs >> 16);
  return {static_cast<uint32_t>(sums & 0xFFFF), static_cast<uint32_t>(sums >> 32 & 0xFFFF)};
}

template <typename Word>
void Fill(uint64_t key, const CodeTable& table, uint64_t first, std::span<std::byte> out) {
  std::byte* at = out.data();
  const size_t count = out.size() / sizeof(Word);
  for (size_t i = 0; i < count; i += 2) {
    const Sums sums = SumsAt(key, (first + i) / 2);
    const Word words[2] = {static_cast<Word>(table[sums.low]), static_cast<Word>(table[sums.high])};
    std::memcpy(at + i * sizeof(Word), words, std::min<size_t>(2, count - i) * sizeof(Word));
  }
}

void FillNibbles(uint64_t key, const CodeTable& table, uint64_t first_byte, std::span<std::byte> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    const Sums sums = SumsAt(key, first_byte + i);
    out[i] = static_cast<std::byte>(table[sums.low] | table[sums.high] << 4);
  }
}

}  // namespace

CodeTable MakeTable(const std::function<uint32_t(float)>& code) {
  CodeTable table{};
  for (int sum = 0; sum < kByteSums; ++sum)
    table[static_cast<size_t>(sum)] = code(static_cast<float>(sum) - kByteSumMean);
  return table;
}

uint64_t StreamKey(uint64_t seed, std::string_view name) {
  uint64_t key = Mix(seed);
  for (const char c : name) key = Mix(key ^ static_cast<uint8_t>(c));
  return key;
}

void FillCodes(uint64_t key, const CodeTable& table, int bits, int64_t offset, std::span<std::byte> out) {
  MORAINE_CHECK(offset % 8 == 0);
  const auto first = static_cast<uint64_t>(offset);
  switch (bits) {
    case 4:
      return FillNibbles(key, table, first, out);
    case 8:
      return Fill<uint8_t>(key, table, first, out);
    case 16:
      return Fill<uint16_t>(key, table, first / 2, out);
    default:
      MORAINE_CHECK_EQ(bits, 32);
      return Fill<uint32_t>(key, table, first / 4, out);
  }
}

}  // namespace moraine
