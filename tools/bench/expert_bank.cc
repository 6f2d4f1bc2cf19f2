#include "tools/bench/expert_bank.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <random>

#include "runtime/core/check.h"
#include "runtime/core/quant_format.h"

namespace moraine::tools {
namespace {

constexpr int64_t kBlockRows = 128;  // of FP8

int64_t Group(const FormatChoice& choice, int64_t columns) {
  return choice.group == 0 ? columns : choice.group;
}

int64_t ScalesBytes(const FormatChoice& choice, int64_t rows, int64_t columns) {
  if (!Describe(choice.format).scaled) return 0;
  const int64_t group = Group(choice, columns);
  const int64_t across = (columns + group - 1) / group;
  return IsInteger(choice.format) ? 2 * rows * across : 4 * ((rows + kBlockRows - 1) / kBlockRows) * across;
}

int64_t MatrixBytes(const FormatChoice& choice, int64_t rows, int64_t columns) {
  return rows * RowBytes(choice.format, columns) + ScalesBytes(choice, rows, columns);
}

// Random bits as finite weights of moderate size.
uint64_t Sane(WeightFormat format, uint64_t bits) {
  switch (format) {
    case WeightFormat::kF32:
      return (bits & 0x807FFFFF807FFFFFu) | 0x3C0000003C000000u;
    case WeightFormat::kF16:
      return (bits & 0x83FF83FF83FF83FFu) | 0x2400240024002400u;
    case WeightFormat::kBf16:
      return (bits & 0x807F807F807F807Fu) | 0x3C003C003C003C00u;
    case WeightFormat::kFp8E4M3Block: {
      // Exponents 8 to 15 but for the last mantissa, so no NaN; one code in 4096 is subnormal, as many as are
      // below 2^-5 among normal values whose largest of a 128 x 128 block is 448: kernels take those another
      // way.
      const uint64_t codes = (bits & 0xBEBEBEBEBEBEBEBEu) | 0x4040404040404040u;
      return bits >> 55 == 0 ? codes & ~uint64_t{0x78} : codes;
    }
    case WeightFormat::kInt8Group:
    case WeightFormat::kInt4Group:
      return bits;
  }
  return bits;
}

}  // namespace

Result<FormatChoice> ParseFormatChoice(const std::string& name) {
  const auto group = [&](size_t prefix) { return std::atoi(name.c_str() + prefix); };
  if (name == "fp8") return FormatChoice{name, WeightFormat::kFp8E4M3Block, 128};
  if (name == "bf16") return FormatChoice{name, WeightFormat::kBf16, 0};
  if (name == "f16") return FormatChoice{name, WeightFormat::kF16, 0};
  if (name == "f32") return FormatChoice{name, WeightFormat::kF32, 0};
  if (name == "int8-row") return FormatChoice{name, WeightFormat::kInt8Group, 0};
  for (const int g : {32, 64, 128}) {
    if (name == fmt::format("int8-g{}", g)) return FormatChoice{name, WeightFormat::kInt8Group, group(6)};
    if (name == fmt::format("int4-g{}", g)) return FormatChoice{name, WeightFormat::kInt4Group, group(6)};
  }
  return Fail(ErrorKind::kUsage,
              fmt::format("format \"{}\" is unknown; one of fp8, bf16, f16, f32, int8-row, "
                          "int8-g32, int8-g64, int8-g128, int4-g32, int4-g64, int4-g128",
                          name));
}

ExpertBank::ExpertBank(std::span<std::byte> memory, const FormatChoice& choice, const ExpertSize& size,
                       WorkerPool& pool)
    : memory_(memory), choice_(choice), size_(size) {
  const int64_t bytes = expert_bytes();
  experts_.resize(memory.size() / static_cast<size_t>(bytes));
  MORAINE_CHECK(!experts_.empty());
  pool.ParallelFor(count(),
                   [&](int64_t e, int) { Fill(memory_.data() + e * bytes, static_cast<uint32_t>(e)); });
  for (int64_t e = 0; e < count(); ++e) {
    std::byte* at = memory_.data() + e * bytes;
    MlpWeights& weights = experts_[static_cast<size_t>(e)].weights;
    weights.gate = View(&at, size_.inner, size_.hidden);
    weights.up = View(&at, size_.inner, size_.hidden);
    weights.down = View(&at, size_.hidden, size_.inner);
  }
}

int64_t ExpertBank::ExpertBytes(const FormatChoice& choice, const ExpertSize& size) {
  return 2 * MatrixBytes(choice, size.inner, size.hidden) + MatrixBytes(choice, size.hidden, size.inner);
}

MatView ExpertBank::View(std::byte** at, int64_t rows, int64_t columns) const {
  MatView view{.data = *at,
               .format = choice_.format,
               .rows = rows,
               .columns = columns,
               .row_bytes = RowBytes(choice_.format, columns)};
  if (Describe(choice_.format).scaled) {
    const bool integer = IsInteger(choice_.format);
    view.scales = *at + rows * view.row_bytes;
    view.scale_type = integer ? ScaleType::kBf16 : ScaleType::kF32;
    view.block_columns = static_cast<int32_t>(Group(choice_, columns));
    view.block_rows = integer ? 1 : kBlockRows;
    view.scale_columns = (columns + view.block_columns - 1) / view.block_columns;
  }
  *at += MatrixBytes(choice_, rows, columns);
  return view;
}

// Weights near one over the root of R1's columns, as a trained layer's are.
void ExpertBank::Fill(std::byte* expert, uint32_t seed) const {
  std::mt19937_64 random(seed);
  std::byte* at = expert;
  for (int matrix = 0; matrix < 3; ++matrix) {
    const int64_t rows = matrix < 2 ? size_.inner : size_.hidden;
    const int64_t columns = matrix < 2 ? size_.hidden : size_.inner;
    const int64_t count = rows * RowBytes(choice_.format, columns);
    for (int64_t i = 0; i < count; i += 8) {
      const uint64_t bits = Sane(choice_.format, random());
      std::memcpy(at + i, &bits, static_cast<size_t>(std::min<int64_t>(8, count - i)));
    }
    std::byte* scales = at + count;
    const int64_t scale_bytes = ScalesBytes(choice_, rows, columns);
    if (IsInteger(choice_.format)) {
      for (int64_t i = 0; i < scale_bytes; i += 2) std::memcpy(scales + i, "\x00\x3b", 2);  // 0.00195
    } else {
      const float scale = 1e-4f;
      for (int64_t i = 0; i < scale_bytes; i += 4) std::memcpy(scales + i, &scale, sizeof scale);
    }
    at += count + scale_bytes;
  }
}

}  // namespace moraine::tools
