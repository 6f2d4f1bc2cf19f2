// AVX-512 VBMI kernel for e4m3: 64 weights become f32 through two tables of 128 bytes, with half the
// instructions of the way through f16 (avx512.cc).
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "cpu/kernels/avx512_vec.inc"
#include "cpu/kernels/e4m3_tables.inc"
#include "cpu/kernels/kernels.h"

namespace moraine::avx512vbmi {
namespace {

using avx512_vec::Vec;

// Where each byte must stand so that interleaving leaves the columns in order (see Decode64).
constexpr std::array<uint8_t, 64> MakeOrder() {
  std::array<uint8_t, 64> order{};
  for (size_t lane = 0; lane < 4; ++lane) {
    for (size_t i = 0; i < 4; ++i) {
      for (size_t part = 0; part < 4; ++part)
        order[16 * lane + 8 * (part / 2) + 2 * i + part % 2] = static_cast<uint8_t>(16 * part + 4 * lane + i);
    }
  }
  return order;
}
alignas(64) constexpr std::array<uint8_t, 64> kOrder = MakeOrder();

struct Fp8 {
  static constexpr int64_t kBits = 8;
  static constexpr bool kScaled = true;
  static constexpr float kUnit = 1.f;
  static constexpr int kMiddle = 0;
  static constexpr int kVectors = 4;

  static void Decode(const std::byte* row, int64_t column, int, Vec::Reg (&out)[4]) {
    Decode64(e4m3::Load64(row + column), out);
  }

  static void Decode64(__m512i codes, Vec::Reg (&out)[4]) {
    const auto [first, second] = e4m3::Decode(_mm512_permutexvar_epi8(e4m3::Load64(kOrder.data()), codes));
    // The even words, shifted up, and the odd ones, as they stand, are f32.
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
