#include "cpu/product.h"

#include <algorithm>

#include "cpu/gemm/prefill_gemm.h"

namespace moraine {

int64_t TaskRows(const MatView& w, int workers) {
  // 64 KiB of weights take some 5 us at 12 GB/s, ten times what handing out a task costs. Larger tasks read
  // better, since every beginning is slow, as long as each worker gets several.
  constexpr int64_t kTaskBytes = int64_t{64} << 10;
  constexpr int64_t kTasksEach = 8;
  constexpr int64_t kMaxRows = 256;
  const int64_t least = std::clamp<int64_t>(kTaskBytes / std::max<int64_t>(w.row_bytes, 1), 4, kMaxRows);
  return std::clamp(w.rows / (kTasksEach * workers), least, kMaxRows);
}

void Multiply(WorkerPool& pool, const KernelSet& kernels, const MatView& w, const float* const* x, int64_t n,
              float* const* y) {
  if (kernels.gemm != nullptr && kernels.gemm->Takes(w, n)) return kernels.gemm->Multiply(pool, w, x, n, y);
  const DotFn dot = kernels.Dot(w.format, n);
  const int64_t rows = TaskRows(w, pool.threads());
  pool.ParallelFor((w.rows + rows - 1) / rows, [&](int64_t task, int) {
    dot(w, task * rows, std::min((task + 1) * rows, w.rows), x, n, y);
  });
}

}  // namespace moraine
