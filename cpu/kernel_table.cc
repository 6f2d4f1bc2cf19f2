#include "cpu/kernel_table.h"

#include <fmt/core.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <algorithm>

#include "cpu/kernels/kernels.h"

namespace moraine {
namespace {

constexpr KernelRow Dot(WeightFormat format, Isa isa, DotFn fn, int64_t min_rows = 1) {
  return {KernelOp::kDot, format, isa, fn, nullptr, nullptr, min_rows};
}
constexpr KernelRow Q8Dot(WeightFormat format, Isa isa, Q8DotFn fn) {
  return {KernelOp::kQ8Dot, format, isa, nullptr, fn, nullptr, 0};
}
constexpr KernelRow Q8Tile(WeightFormat format, Isa isa, Q8DotFn fn, int64_t min_rows) {
  return {KernelOp::kQ8Tile, format, isa, nullptr, fn, nullptr, min_rows};
}
constexpr KernelRow Transposed(WeightFormat format, Isa isa, TransposedFn fn) {
  return {KernelOp::kTransposed, format, isa, nullptr, nullptr, fn, 0};
}

constexpr auto kF32 = WeightFormat::kF32;
constexpr auto kF16 = WeightFormat::kF16;
constexpr auto kBf16 = WeightFormat::kBf16;
constexpr auto kFp8 = WeightFormat::kFp8E4M3Block;
constexpr auto kInt8 = WeightFormat::kInt8Group;
constexpr auto kInt4 = WeightFormat::kInt4Group;

constexpr std::array kRows = {
    Q8Tile(kInt4, Isa::kAmx, amx::Q8TileInt4, 3),
    Q8Tile(kInt8, Isa::kAmx, amx::Q8TileInt8, 1),
    Dot(kFp8, Isa::kAmx, amx::DotFp8, 2),
    Dot(kBf16, Isa::kAmx, amx::DotBf16, 2),
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
    {Isa::kAmx, "amx", "AMX with INT8 and BF16"},
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

#if defined(__x86_64__)
// Linux hands the tile registers out on request only, for good and for all threads of the process.
bool HasTiles() {
  constexpr int kArchReqXcompPerm = 0x1023;
  constexpr int kXtiledata = 18;
  constexpr unsigned kAll = 1u << 22 | 1u << 24 | 1u << 25;  // AMX-BF16, AMX-TILE, AMX-INT8
  static const bool has = [] {
    unsigned eax = 0;
    unsigned ebx = 0;
    unsigned ecx = 0;
    unsigned edx = 0;
    if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
    return (edx & kAll) == kAll && syscall(SYS_arch_prctl, kArchReqXcompPerm, kXtiledata) == 0;
  }();
  return has;
}
#endif

}  // namespace

std::string_view Name(Isa isa) { return Info(isa).name; }

std::string_view Name(KernelOp op) {
  switch (op) {
    case KernelOp::kDot:
      return "dot";
    case KernelOp::kQ8Dot:
      return "q8-dot";
    case KernelOp::kQ8Tile:
      return "q8-tile";
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
    case Isa::kAmx:
      return CpuHas(Isa::kAvx512Vbmi) && __builtin_cpu_supports("gfni") != 0 && HasTiles();
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

Isa BestIsa() {
  auto isa = Isa::kAmx;
  while (!CpuHas(isa)) isa = static_cast<Isa>(static_cast<int>(isa) + 1);
  return isa;
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
        if (row.min_rows > 1) {
          if (set.dot_tile[format] != nullptr) break;
          set.dot_tile[format] = row.dot;
          set.dot_tile_rows[format] = row.min_rows;
          set.dot_bytes = kFloatTileBytes;
          break;
        }
        if (set.dot[format] != nullptr) break;
        set.dot[format] = row.dot;
        if (set.q8_dot[format] == nullptr) set.isa[format] = row.isa;
        break;
      case KernelOp::kQ8Dot:
        if (set.q8_dot[format] != nullptr || activations == Activations::kF32) break;
        set.q8_dot[format] = row.q8_dot;
        set.isa[format] = row.isa;
        break;
      case KernelOp::kQ8Tile:
        if (set.q8_tile[format] != nullptr || activations == Activations::kF32) break;
        set.q8_tile[format] = row.q8_dot;
        set.q8_tile_rows[format] = row.min_rows;
        set.q8_tile_isa[format] = row.isa;
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
