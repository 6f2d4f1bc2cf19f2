// Products of weights with many rows, shared out over the pool.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/kernel_table.h"
#include "cpu/worker_pool.h"
#include "runtime/core/mat_view.h"

namespace moraine {

/// Pointers to the rows of a row-major f32 matrix; refilled per product, allocated once.
class RowPointers {
 public:
  explicit RowPointers(int64_t max_rows) : pointers_(static_cast<size_t>(max_rows)) {}

  float* const* Fill(float* base, int64_t stride, int64_t rows) {
    for (int64_t t = 0; t < rows; ++t) pointers_[static_cast<size_t>(t)] = base + t * stride;
    return pointers_.data();
  }
  float*& operator[](int64_t row) { return pointers_[static_cast<size_t>(row)]; }
  float* const* data() const { return pointers_.data(); }

 private:
  std::vector<float*> pointers_;
};

/// Rows of a weight matrix that make one task for `workers`: enough bytes to be worth a task, few enough to
/// share out evenly.
int64_t TaskRows(const MatView& w, int workers);

/// y[t] = W x[t] for t in [0, n), all of W's rows; blocking, allocates nothing.
void Multiply(WorkerPool& pool, const KernelSet& kernels, const MatView& w, const float* const* x, int64_t n,
              float* const* y);

}  // namespace moraine
