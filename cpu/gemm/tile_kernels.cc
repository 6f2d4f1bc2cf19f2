#include "cpu/gemm/tile_kernels.h"

#include "cpu/kernels/tile.h"
#include "runtime/core/check.h"

namespace moraine {
namespace {

// Not constants of this file alone: the order of initialisation between files does not matter to pointers.
const std::array<const TileKernels*, 4> kAll = {&avx512::kTileBf16, &avx2::kTileF32, &scalar::kTileBf16,
                                                &scalar::kTileF32};

}  // namespace

std::span<const TileKernels* const> AllTileKernels() { return kAll; }

bool CpuRuns(const TileKernels& kernels) {
#if defined(__x86_64__)
  if (kernels.isa == "avx2") {
    return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
  }
  if (kernels.isa == "avx512-bf16") {
    return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
           __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
           __builtin_cpu_supports("avx512vbmi") != 0 && __builtin_cpu_supports("avx512bf16") != 0;
  }
#endif
  return kernels.isa == "scalar";
}

const TileKernels& SelectTileKernels(GemmType type) {
  for (const TileKernels* kernels : kAll) {
    if (kernels->type == type && CpuRuns(*kernels)) return *kernels;
  }
  MORAINE_CHECK(false);
  return *kAll.back();
}

}  // namespace moraine
