// A build without oneDNN: every product goes through the kernels of cpu/kernel_table.h.
#include "cpu/gemm/plain_gemm.h"
#include "cpu/gemm/tile_gemm.h"

namespace moraine {

Result<std::unique_ptr<TileGemm>> TileGemm::Create(GemmIsa, int, std::optional<GemmType>) {
  return Fail(ErrorKind::kHardware, "this build has no oneDNN (MORAINE_ONEDNN=OFF)");
}

Result<std::unique_ptr<PlainGemm>> PlainGemm::Create(GemmType, const Shape&, WorkerPool&) {
  return Fail(ErrorKind::kHardware, "this build has no oneDNN (MORAINE_ONEDNN=OFF)");
}

}  // namespace moraine
