#include "cpu/kernel_table.h"

#include <fmt/core.h>

#include <algorithm>

#include "cpu/kernels/kernels.h"

namespace moraine {
namespace {

constexpr KernelRow Dot(WeightFormat format, Isa isa, DotFn fn) {
  return {KernelOp::kDot, format, isa, fn, nullptr};
}
constexpr KernelRow Transposed(WeightFormat format, Isa isa, TransposedFn fn) {
  return {KernelOp::kTransposed, format, isa, nullptr, fn};
}

constexpr auto kF32 = WeightFormat::kF32;
constexpr auto kF16 = WeightFormat::kF16;
constexpr auto kBf16 = WeightFormat::kBf16;
constexpr auto kFp8 = WeightFormat::kFp8E4M3Block;
constexpr auto kInt8 = WeightFormat::kInt8Group;
constexpr auto kInt4 = WeightFormat::kInt4Group;

constexpr std::array kRows = {
    Dot(kFp8, Isa::kAvx2, avx2::DotFp8),
    Dot(kBf16, Isa::kAvx2, avx2::DotBf16),
    Dot(kF16, Isa::kAvx2, avx2::DotF16),
    Dot(kF32, Isa::kAvx2, avx2::DotF32),
    Transposed(kFp8, Isa::kAvx2, avx2::TransposedFp8),
    Transposed(kBf16, Isa::kAvx2, avx2::TransposedBf16),
    Transposed(kF16, Isa::kAvx2, avx2::TransposedF16),
    Transposed(kF32, Isa::kAvx2, avx2::TransposedF32),
    Dot(kInt4, Isa::kScalar, scalar::Dot),
    Dot(kInt8, Isa::kScalar, scalar::Dot),
    Dot(kFp8, Isa::kScalar, scalar::Dot),
    Dot(kBf16, Isa::kScalar, scalar::Dot),
    Dot(kF16, Isa::kScalar, scalar::Dot),
    Dot(kF32, Isa::kScalar, scalar::Dot),
    Transposed(kInt4, Isa::kScalar, scalar::Transposed),
    Transposed(kInt8, Isa::kScalar, scalar::Transposed),
    Transposed(kFp8, Isa::kScalar, scalar::Transposed),
    Transposed(kBf16, Isa::kScalar, scalar::Transposed),
    Transposed(kF16, Isa::kScalar, scalar::Transposed),
    Transposed(kF32, Isa::kScalar, scalar::Transposed),
};

consteval bool EveryFormatHasScalar() {
  for (int format = 0; format < kWeightFormats; ++format) {
    for (const KernelOp op : {KernelOp::kDot, KernelOp::kTransposed}) {
      const auto matches = [&](const KernelRow& row) {
        return row.op == op && row.format == static_cast<WeightFormat>(format) && row.isa == Isa::kScalar;
      };
      if (std::none_of(kRows.begin(), kRows.end(), matches)) return false;
    }
  }
  return true;
}
static_assert(EveryFormatHasScalar(), "a weight format lacks its scalar row");

}  // namespace

std::string_view Name(Isa isa) {
  switch (isa) {
    case Isa::kAvx2:
      return "avx2";
    case Isa::kScalar:
      return "scalar";
  }
  return "?";
}

std::span<const KernelRow> KernelRows() { return kRows; }

bool CpuHas(Isa isa) {
  switch (isa) {
    case Isa::kAvx2:
#if defined(__x86_64__)
      // F16C has no name here on g++ 12; every CPU with AVX2 has it (Haswell and Zen onwards).
      return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
#else
      return false;
#endif
    case Isa::kScalar:
      return true;
  }
  return false;
}

std::string WhyNot(Isa isa) {
  return CpuHas(isa) ? std::string()
                     : fmt::format("this CPU has no {}", isa == Isa::kAvx2 ? "AVX2 with FMA" : Name(isa));
}

Result<KernelSet> SelectKernels(const std::string& isa) {
  Isa best = Isa::kAvx2;
  if (isa == "scalar") {
    best = Isa::kScalar;
  } else if (isa != "auto" && isa != "avx2") {
    return Fail(ErrorKind::kUsage, fmt::format("isa \"{}\" is unknown; one of auto, avx2, scalar", isa));
  }
  if (isa != "auto" && !CpuHas(best)) {
    return Fail(ErrorKind::kHardware, fmt::format("isa \"{}\" was asked for, but {}", isa, WhyNot(best)));
  }
  KernelSet set;
  for (const KernelRow& row : kRows) {
    if (row.isa < best || !CpuHas(row.isa)) continue;
    const auto format = static_cast<size_t>(row.format);
    if (row.op == KernelOp::kDot && set.dot[format] == nullptr) {
      set.dot[format] = row.dot;
      set.isa[format] = row.isa;
    }
    if (row.op == KernelOp::kTransposed && set.transposed[format] == nullptr)
      set.transposed[format] = row.transposed;
  }
  return set;
}

}  // namespace moraine
