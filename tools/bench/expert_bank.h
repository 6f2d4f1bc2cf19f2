// Experts of any format and geometry with random weights, to run and to read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "cpu/worker_pool.h"
#include "runtime/core/experts.h"
#include "runtime/core/mat_view.h"
#include "runtime/core/result.h"

namespace moraine::tools {

struct FormatChoice {
  std::string name;  // as printed
  WeightFormat format;
  int32_t group;  // columns of an FP8 block or of an integer scale; 0 is a whole row
};

/// "fp8", "bf16", "f16", "f32", "int8-row", "int8-g32", "int8-g64", "int8-g128" and the same of int4. kUsage
/// for another.
Result<FormatChoice> ParseFormatChoice(const std::string& name);

struct ExpertSize {
  int64_t hidden;  // H
  int64_t inner;   // I
};
inline constexpr ExpertSize kR1Expert = {.hidden = 7168, .inner = 2048};

/// Experts side by side in one block of memory, as a loader lays them: gate, up, down, each with its scales
/// behind (FP8: 32 bits a 128-row block; integers: BF16). Uncut: for a pool of one node. Immutable once made.
class ExpertBank {
 public:
  /// Fills `memory`, which outlives the bank, with as many experts as it holds, at least one; a remainder is
  /// left alone. Weights are finite, neither vanish nor overflow. Blocking.
  ExpertBank(std::span<std::byte> memory, const FormatChoice& choice, const ExpertSize& size,
             WorkerPool& pool);
  static int64_t ExpertBytes(const FormatChoice& choice, const ExpertSize& size);

  int64_t count() const { return static_cast<int64_t>(experts_.size()); }
  int64_t expert_bytes() const { return ExpertBytes(choice_, size_); }
  std::span<const ExpertSlice> expert(int64_t e) const { return {&experts_[static_cast<size_t>(e)], 1}; }
  std::span<const std::byte> bytes() const { return memory_; }

 private:
  MatView View(std::byte** at, int64_t rows, int64_t columns) const;
  void Fill(std::byte* expert, uint32_t seed) const;

  std::span<std::byte> memory_;
  FormatChoice choice_;
  ExpertSize size_;
  std::vector<ExpertSlice> experts_;
};

}  // namespace moraine::tools
