// Weight formats: how bytes become numbers. The scalar decoders here are the oracle of every kernel.
//
// A new format: a value and a row in kFormats (quant_format.cc), a case in DecodeRow, one file per ISA folder
// wanted, rows in cpu/kernel_table.cc, a line in storage/FORMAT.md where it is stored by us. Nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace moraine {

enum class WeightFormat : uint8_t {
  kF32,
  kF16,
  kBf16,
  kFp8E4M3Block,  // e4m3 (no infinities, one NaN per sign) with one scale per block of rows x columns
  kInt8Group,     // unsigned bytes q; weight = (q - zero) scale, one of each per row and group of columns
  kInt4Group,     // the same in four bits: column 2 i in the low half of byte i, column 2 i + 1 in the high
};
inline constexpr int kWeightFormats = 6;

/// The zero of an integer format that stores none of its own: half its range (compressed-tensors, symmetric).
inline constexpr uint8_t kInt8Zero = 128;
inline constexpr uint8_t kInt4Zero = 8;

/// How block or group scales lie in memory.
enum class ScaleType : uint8_t { kF32, kF16, kBf16 };

struct FormatInfo {
  WeightFormat format;
  std::string_view name;  // as printed: "fp8-e4m3-b128"
  int bits;               // stored bits per weight, scales not counted
  bool scaled;            // has block scales beside it
};

const FormatInfo& Describe(WeightFormat format);

/// True for the formats whose products may be formed in integers.
bool IsInteger(WeightFormat format);

/// Bytes of one stored row of `columns` weights without padding, scales not counted.
int64_t RowBytes(WeightFormat format, int64_t columns);

/// Exact conversions. The decoders accept every bit pattern; NaN stays NaN. The encoders round to nearest,
/// ties to even; F32ToFp8E4M3 saturates at 448, F32ToF16 overflows to infinity (NaN stays NaN).
float F16ToF32(uint16_t bits);
float Bf16ToF32(uint16_t bits);
float Fp8E4M3ToF32(uint8_t bits);
uint16_t F32ToBf16(float value);
uint16_t F32ToF16(float value);
uint8_t F32ToFp8E4M3(float value);

int64_t ScaleBytes(ScaleType type);  // of one scale
float DecodeScale(ScaleType type, const std::byte* at);

struct MatView;

/// Decodes row `row` of `matrix` into `out` (exactly matrix.columns values). The reference for all kernels.
void DecodeRow(const MatView& matrix, int64_t row, std::span<float> out);

}  // namespace moraine
