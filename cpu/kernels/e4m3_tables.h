// Tables from e4m3's seven bits of magnitude to the two bytes of bf16, for AVX-512 VBMI.
//
// An e4m3 value is exact in bf16, subnormals and NaN included, so two look-ups decode it.
#pragma once

#include <immintrin.h>

#include <array>
#include <cstdint>

namespace moraine::e4m3 {

struct Tables {
  alignas(64) std::array<uint8_t, 128> low{};
  alignas(64) std::array<uint8_t, 128> high{};
};

// bf16 of magnitude m: e4m3's exponent bias is 7, bf16's 127; a subnormal m / 8 x 2^-6 is normalised.
constexpr uint16_t MagnitudeAsBf16(uint32_t m) {
  if (m == 0) return 0;
  if (m == 0x7F) return 0x7FC0;
  if (m >= 8) return static_cast<uint16_t>((m << 4) + (120u << 7));
  uint32_t exponent = 121;
  while ((m & 8) == 0) {
    m <<= 1;
    --exponent;
  }
  return static_cast<uint16_t>((exponent << 7) | ((m & 7) << 4));
}

constexpr Tables MakeTables() {
  Tables tables;
  for (uint32_t m = 0; m < 128; ++m) {
    tables.low[m] = static_cast<uint8_t>(MagnitudeAsBf16(m));
    tables.high[m] = static_cast<uint8_t>(MagnitudeAsBf16(m) >> 8);
  }
  return tables;
}
inline constexpr Tables kTables = MakeTables();

static inline __m512i Load64(const void* at) { return _mm512_loadu_si512(at); }

/// 64 codes as two vectors of bf16: `first` holds bytes 0..7 of each 16, `second` bytes 8..15.
struct Words {
  __m512i first;
  __m512i second;
};
static inline Words Decode(__m512i codes) {
  const __m512i low =
      _mm512_permutex2var_epi8(Load64(kTables.low.data()), codes, Load64(kTables.low.data() + 64));
  const __m512i magnitude =
      _mm512_permutex2var_epi8(Load64(kTables.high.data()), codes, Load64(kTables.high.data() + 64));
  constexpr int kAOrBAndC = 0xF8;
  const __m512i high = _mm512_ternarylogic_epi32(magnitude, codes, _mm512_set1_epi8(-0x80), kAOrBAndC);
  return {_mm512_unpacklo_epi8(low, high), _mm512_unpackhi_epi8(low, high)};
}

}  // namespace moraine::e4m3
