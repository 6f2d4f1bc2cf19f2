// oneDNN multiplying dense matrices with nothing around it: the yardstick of prefill, for benches only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "cpu/gemm/gemm_report.h"
#include "cpu/worker_pool.h"
#include "runtime/core/result.h"

namespace moraine {

/// The three products of gated MLPs, [rows, H] x [H, 2 I] and [rows, I] x [I, H], with random weights of
/// `experts` experts held in the layout oneDNN itself asks for at that number of rows. Columns are cut into
/// shards of 512, each multiplied by one worker with one thread.
class PlainGemm {
 public:
  struct Shape {
    int64_t rows = 0;
    int64_t hidden = 0;
    int64_t inner = 0;
    int64_t experts = 0;
  };

  /// kHardware in a build without oneDNN, kInternal when it has only its reference implementation.
  static Result<std::unique_ptr<PlainGemm>> Create(GemmType type, const Shape& shape, WorkerPool& pool);
  virtual ~PlainGemm() = default;

  /// Every expert once. Blocking.
  virtual void Run(WorkerPool& pool) = 0;
  /// Of one Run.
  virtual double Flops() const = 0;
  virtual std::string implementation() const = 0;
};

}  // namespace moraine
