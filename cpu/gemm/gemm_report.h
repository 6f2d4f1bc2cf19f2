// What products with many rows go through, oneDNN's and our own: for `moraine inspect --kernels` and `run
// --json`.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moraine {

/// What both factors are rounded to before they are multiplied; sums are f32.
enum class GemmType : uint8_t { kF32, kBf16 };

/// One product of [rows, depth] weights and [depth, width] activations.
struct GemmUse {
  std::string implementation;  // as oneDNN names it: "brg:avx512_core_amx"
  GemmType type = GemmType::kF32;
  int64_t rows = 0;
  int64_t depth = 0;
  int64_t width = 0;
  bool add = false;   // to what is in C
  int64_t calls = 0;  // since it was made
  double Flops() const {
    return 2.0 * static_cast<double>(rows) * static_cast<double>(depth) * static_cast<double>(width) *
           static_cast<double>(calls);
  }
};

struct GemmReport {
  std::vector<GemmUse> made;     // every product of oneDNN's, used or not
  std::vector<std::string> own;  // experts it is not asked for: "own: amx int8 of int4-group, from 2 rows on"
  std::vector<std::string> refused;  // why oneDNN is not used: not there, only its reference, wrong results
  double gemm_flops = 0;             // by oneDNN, padding of panels included
  double other_flops = 0;  // of experts in steps that used oneDNN too, by the kernels of kernel_table.h

  /// oneDNN's part of the arithmetic, 0 to 1.
  double Share() const {
    const double all = gemm_flops + other_flops;
    return all == 0 ? 0 : gemm_flops / all;
  }
};

}  // namespace moraine
