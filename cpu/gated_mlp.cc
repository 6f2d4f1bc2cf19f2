#include "cpu/gated_mlp.h"

#include <algorithm>

#include "cpu/gemm/prefill_gemm.h"

namespace moraine {

GatedMlp::GatedMlp(int64_t inner, int64_t max_rows)
    : inner_(inner),
      gate_(static_cast<size_t>(inner * max_rows)),
      up_(static_cast<size_t>(inner * max_rows)),
      gate_rows_(max_rows),
      up_rows_(max_rows) {}

void GatedMlp::Run(WorkerPool& pool, const KernelSet& kernels, const MlpWeights& w, const float* const* x,
                   int64_t n, float* const* y) {
  if (kernels.gemm != nullptr && kernels.gemm->Takes(w, n)) return kernels.gemm->GatedMlp(pool, w, x, n, y);
  float* const* gate = gate_rows_.Fill(gate_.data(), inner_, n);
  float* const* up = up_rows_.Fill(up_.data(), inner_, n);
  const int64_t rows = TaskRows(w.gate, pool.threads());
  pool.ParallelFor((w.gate.rows + rows - 1) / rows, [&](int64_t task, int) {
    const int64_t begin = task * rows;
    const int64_t end = std::min(begin + rows, w.gate.rows);
    kernels.Dot(w.gate.format, n)(w.gate, begin, end, x, n, gate);
    kernels.Dot(w.up.format, n)(w.up, begin, end, x, n, up);
    for (int64_t t = 0; t < n; ++t)
      kernels.silu(gate[t] + begin, up[t] + begin, end - begin, gate[t] + begin);
  });
  Multiply(pool, kernels, w.down, gate, n, y);
}

}  // namespace moraine
