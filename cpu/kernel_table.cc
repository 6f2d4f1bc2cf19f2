#include "cpu/kernel_table.h"

#include <fmt/core.h>

#include <algorithm>

#include "cpu/kernels/kernels.h"

namespace moraine {
namespace {

constexpr KernelRow Dot(WeightFormat format, Isa isa, DotFn fn) {
  return {KernelOp::kDot, format, isa, fn, nullptr, nullptr};
}
constexpr KernelRow Q8Dot(WeightFormat format, Isa isa, Q8DotFn fn) {
  return {KernelOp::kQ8Dot, format, isa, nullptr, fn, nullptr};
}
constexpr KernelRow Transposed(WeightFormat format, Isa isa, TransposedFn fn) {
  return {KernelOp::kTransposed, format, isa, nullptr, nullptr, fn};
}

constexpr auto kF32 = WeightFormat::kF32;
constexpr auto kF16 = WeightFormat::kF16;
constexpr auto kBf16 = WeightFormat::kBf16;
constexpr auto kFp8 = WeightFormat::kFp8E4M3Block;
constexpr auto kInt8 = WeightFormat::kInt8Group;
constexpr auto kInt4 = WeightFormat::kInt4Group;

constexpr std::array kRows = {
    Dot(kFp8, Isa::kAvx512Vbmi, avx512vbmi::DotFp8),
    Transposed(kFp8, Isa::kAvx512Vbmi, avx512vbmi::TransposedFp8),
    Q8Dot(kInt4, Isa::kAvx512Vnni, avx512vnni::Q8DotInt4),
    Q8Dot(kInt8, Isa::kAvx512Vnni, avx512vnni::Q8DotInt8),
    Q8Dot(kInt4, Isa::kAvx512, avx512::Q8DotInt4),
    Q8Dot(kInt8, Isa::kAvx512, avx512::Q8DotInt8),
    Dot(kInt4, Isa::kAvx512, avx512::DotInt4),
    Dot(kInt8, Isa::kAvx512, avx512::DotInt8),
    Dot(kFp8, Isa::kAvx512, avx512::DotFp8),
    Dot(kBf16, Isa::kAvx512, avx512::DotBf16),
    Dot(kF16, Isa::kAvx512, avx512::DotF16),
    Dot(kF32, Isa::kAvx512, avx512::DotF32),
    Transposed(kInt4, Isa::kAvx512, avx512::TransposedInt4),
    Transposed(kInt8, Isa::kAvx512, avx512::TransposedInt8),
    Transposed(kFp8, Isa::kAvx512, avx512::TransposedFp8),
    Transposed(kBf16, Isa::kAvx512, avx512::TransposedBf16),
    Transposed(kF16, Isa::kAvx512, avx512::TransposedF16),
    Transposed(kF32, Isa::kAvx512, avx512::TransposedF32),
    Q8Dot(kInt4, Isa::kAvx2, avx2::Q8DotInt4),
    Q8Dot(kInt8, Isa::kAvx2, avx2::Q8DotInt8),
    Dot(kInt4, Isa::kAvx2, avx2::DotInt4),
    Dot(kInt8, Isa::kAvx2, avx2::DotInt8),
    Dot(kFp8, Isa::kAvx2, avx2::DotFp8),
    Dot(kBf16, Isa::kAvx2, avx2::DotBf16),
    Dot(kF16, Isa::kAvx2, avx2::DotF16),
    Dot(kF32, Isa::kAvx2, avx2::DotF32),
    Transposed(kInt4, Isa::kAvx2, avx2::TransposedInt4),
    Transposed(kInt8, Isa::kAvx2, avx2::TransposedInt8),
    Transposed(kFp8, Isa::kAvx2, avx2::TransposedFp8),
    Transposed(kBf16, Isa::kAvx2, avx2::TransposedBf16),
    Transposed(kF16, Isa::kAvx2, avx2::TransposedF16),
    Transposed(kF32, Isa::kAvx2, avx2::TransposedF32),
    Q8Dot(kInt4, Isa::kScalar, scalar::Q8Dot),
    Q8Dot(kInt8, Isa::kScalar, scalar::Q8Dot),
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

constexpr std::array kActivationRows = {
    ActivationRow{Isa::kAvx2, avx2::Quantise, avx2::SiluMultiply, avx2::ExpSum},
    ActivationRow{Isa::kScalar, scalar::Quantise, scalar::SiluMultiply, scalar::ExpSum},
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

struct IsaInfo {
  Isa isa;
  std::string_view name;
  std::string_view features;
};
constexpr std::array<IsaInfo, kIsas> kIsaInfo = {{
    {Isa::kAvx512Vbmi, "avx512-vbmi", "AVX-512 VBMI"},
    {Isa::kAvx512Vnni, "avx512-vnni", "AVX-512 VNNI"},
    {Isa::kAvx512, "avx512", "AVX-512 F, BW, DQ and VL"},
    {Isa::kAvx2, "avx2", "AVX2 with FMA"},
    {Isa::kScalar, "scalar", ""},
}};

const IsaInfo& Info(Isa isa) { return kIsaInfo.at(static_cast<size_t>(isa)); }

// "auto" is the best there is; nullptr for an unknown name.
const IsaInfo* FindIsa(const std::string& name) {
  if (name == "auto") return kIsaInfo.begin();
  const auto* at =
      std::find_if(kIsaInfo.begin(), kIsaInfo.end(), [&](const IsaInfo& i) { return i.name == name; });
  return at == kIsaInfo.end() ? nullptr : at;
}

}  // namespace

std::string_view Name(Isa isa) { return Info(isa).name; }

std::string_view Name(KernelOp op) {
  switch (op) {
    case KernelOp::kDot:
      return "dot";
    case KernelOp::kQ8Dot:
      return "q8-dot";
    case KernelOp::kTransposed:
      return "transposed";
  }
  return "?";
}

std::span<const KernelRow> KernelRows() { return kRows; }
std::span<const ActivationRow> ActivationRows() { return kActivationRows; }

// The built-in check asks the operating system too (XCR0): no kernel runs where its registers are not saved.
bool CpuHas(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::kAvx512Vbmi:
      return CpuHas(Isa::kAvx512Vnni) && __builtin_cpu_supports("avx512vbmi") != 0;
    case Isa::kAvx512Vnni:
      return CpuHas(Isa::kAvx512) && __builtin_cpu_supports("avx512vnni") != 0;
    case Isa::kAvx512:
      return CpuHas(Isa::kAvx2) && __builtin_cpu_supports("avx512f") != 0 &&
             __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
             __builtin_cpu_supports("avx512vl") != 0;
    case Isa::kAvx2:
      // F16C has no name here on g++ 12; every CPU with AVX2 has it (Haswell and Zen onwards).
      return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
    case Isa::kScalar:
      return true;
  }
#endif
  return isa == Isa::kScalar;
}

std::string WhyNot(Isa isa) {
  return CpuHas(isa) ? std::string() : fmt::format("this CPU has no {}", Info(isa).features);
}

bool FitsQ8(const MatView& w) {
  return IsInteger(w.format) && (w.block_columns % kQ8Block == 0 || w.scale_columns == 1);
}

Result<KernelSet> SelectKernels(const std::string& isa, Activations activations) {
  const IsaInfo* best = FindIsa(isa);
  if (best == nullptr) {
    std::string names = "auto";
    for (const IsaInfo& info : kIsaInfo) names += fmt::format(", {}", info.name);
    return Fail(ErrorKind::kUsage, fmt::format("isa \"{}\" is unknown; one of {}", isa, names));
  }
  if (isa != "auto" && !CpuHas(best->isa)) {
    return Fail(ErrorKind::kHardware,
                fmt::format("isa \"{}\" was asked for, but {}", isa, WhyNot(best->isa)));
  }
  const auto usable = [&](Isa row) { return row >= best->isa && CpuHas(row); };
  KernelSet set;
  for (const KernelRow& row : kRows) {
    if (!usable(row.isa)) continue;
    const auto format = static_cast<size_t>(row.format);
    switch (row.op) {
      case KernelOp::kDot:
        if (set.dot[format] != nullptr) break;
        set.dot[format] = row.dot;
        if (set.q8_dot[format] == nullptr) set.isa[format] = row.isa;
        break;
      case KernelOp::kQ8Dot:
        if (set.q8_dot[format] != nullptr || activations == Activations::kF32) break;
        set.q8_dot[format] = row.q8_dot;
        set.isa[format] = row.isa;
        break;
      case KernelOp::kTransposed:
        if (set.transposed[format] == nullptr) set.transposed[format] = row.transposed;
        break;
    }
  }
  const auto* row = std::find_if(kActivationRows.begin(), kActivationRows.end(),
                                 [&](const ActivationRow& r) { return usable(r.isa); });
  set.quantise = row->quantise;
  set.silu = row->silu;
  set.exp_sum = row->exp_sum;
  return set;
}

}  // namespace moraine
