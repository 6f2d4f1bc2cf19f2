// How fast experts with many rows run, beside oneDNN multiplying the same shapes with nothing else to do.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "cpu/kernel_table.h"
#include "cpu/worker_pool.h"
#include "runtime/core/experts.h"
#include "runtime/core/result.h"

namespace moraine::tools {

struct PrefillRow {
  std::string format;
  std::string implementation;  // what multiplied: oneDNN's choice, "brg:avx512_core_amx", or "own: amx int8"
  int32_t tokens = 0;          // rows of each expert
  double gflops = 0;           // all in: pack, decode, multiply, SiLU, combine
  double plain_gflops = 0;     // oneDNN's matmul of the same type and shapes, weights laid out beforehand
  double share = 0;            // median of the rounds' own shares
};

struct PrefillBench {
  std::string format;  // as printed
  WeightFormat weight_format;
  std::function<std::span<const ExpertSlice>(int64_t)> expert;  // of R1's geometry, [0, experts)
  int64_t experts = 0;                                          // so many that no cache holds them
  double seconds = 1;
  int rounds = 5;
};

/// Eight experts a layer that all rows choose, in turn with the plain products of eight experts; one row of
/// the result for each of `tokens`. `kernels.gemm` must be there and be made for the pool's threads; the pool
/// has one node.
Result<std::vector<PrefillRow>> MeasurePrefill(const PrefillBench& bench, const KernelSet& kernels,
                                               WorkerPool& pool, std::span<const int32_t> tokens);

}  // namespace moraine::tools
