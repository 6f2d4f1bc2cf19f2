// AVX-512 VBMI kernel for e4m3: 64 weights become f32 through two tables of 128 bytes.
//
// An e4m3 value is exact in bf16, subnormals and NaN included, so its f32 has two bytes that matter, and each
// is one look-up by the seven bits of magnitude: half the instructions of the way through f16 (avx512.cc).
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "cpu/kernels/avx512_vec.h"
#include "cpu/kernels/kernels.h"

namespace moraine::avx512vbmi {
namespace {

using avx512_vec::Vec;

struct Tables {
  alignas(64) std::array<uint8_t, 128> low{};
  alignas(64) std::array<uint8_t, 128> high{};
  // Where each byte must stand so that interleaving leaves columns in order (see Decode).
  alignas(64) std::array<uint8_t, 64> order{};
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
  for (size_t lane = 0; lane < 4; ++lane) {
    for (size_t i = 0; i < 4; ++i) {
      for (size_t part = 0; part < 4; ++part)
        tables.order[16 * lane + 8 * (part / 2) + 2 * i + part % 2] =
            static_cast<uint8_t>(16 * part + 4 * lane + i);
    }
  }
  return tables;
}
constexpr Tables kTables = MakeTables();

__m512i Load64(const void* at) { return _mm512_loadu_si512(at); }

struct Fp8 {
  static constexpr int64_t kBits = 8;
  static constexpr bool kScaled = true;
  static constexpr float kUnit = 1.f;
  static constexpr int kMiddle = 0;
  static constexpr int kVectors = 4;

  static void Decode(const std::byte* row, int64_t column, int, Vec::Reg (&out)[4]) {
    Decode64(Load64(row + column), out);
  }

  static void Decode64(__m512i codes, Vec::Reg (&out)[4]) {
    const __m512i v = _mm512_permutexvar_epi8(Load64(kTables.order.data()), codes);
    const __m512i low =
        _mm512_permutex2var_epi8(Load64(kTables.low.data()), v, Load64(kTables.low.data() + 64));
    const __m512i magnitude =
        _mm512_permutex2var_epi8(Load64(kTables.high.data()), v, Load64(kTables.high.data() + 64));
    constexpr int kAOrBAndC = 0xF8;
    const __m512i high = _mm512_ternarylogic_epi32(magnitude, v, _mm512_set1_epi8(-0x80), kAOrBAndC);
    // Words of both bytes; the even ones, shifted up, and the odd ones, as they stand, are f32.
    const __m512i first = _mm512_unpacklo_epi8(low, high);
    const __m512i second = _mm512_unpackhi_epi8(low, high);
    const __m512i odd = _mm512_set1_epi32(static_cast<int>(0xFFFF0000u));
    out[0] = _mm512_castsi512_ps(_mm512_slli_epi32(first, 16));
    out[1] = _mm512_castsi512_ps(_mm512_and_si512(first, odd));
    out[2] = _mm512_castsi512_ps(_mm512_slli_epi32(second, 16));
    out[3] = _mm512_castsi512_ps(_mm512_and_si512(second, odd));
  }

  static Vec::Reg Decode1(const std::byte* row, int64_t column, int) {
    const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + column));
    Vec::Reg out[4];
    Decode64(_mm512_castsi128_si512(codes), out);
    return out[0];
  }
  static void Copy(const std::byte* row, int64_t column, int64_t count, std::byte* buffer) {
    std::memcpy(buffer, row + column, static_cast<size_t>(count));
  }
};

}  // namespace

#include "cpu/kernels/float_dot.inc"

MORAINE_FLOAT_KERNELS(Fp8)
}  // namespace moraine::avx512vbmi
