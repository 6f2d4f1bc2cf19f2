#include "tools/bench/read_bandwidth.h"

#include <emmintrin.h>
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <numeric>

namespace moraine::tools {

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

double ReadBandwidth(WorkerPool& pool, std::span<const std::byte> memory, double seconds) {
  constexpr int64_t kPiece = int64_t{256} << 10;
  constexpr int64_t kPieces = 256;
  const int64_t pieces = static_cast<int64_t>(memory.size()) / kPiece;
  std::vector<uint64_t> sinks(static_cast<size_t>(pool.threads()) * 8);
  int64_t next = 0;
  int64_t done = 0;
  const double start = Seconds();
  double now = start;
  while (now - start < seconds) {
    pool.ParallelFor(kPieces, [&](int64_t task, int worker) {
      const auto* at = reinterpret_cast<const __m128i*>(memory.data() + (next + task) % pieces * kPiece);
      __m128i sums[4] = {};
      for (int64_t i = 0; i < kPiece / 16; i += 4) {
        __builtin_prefetch(at + i + 256);
        for (int64_t k = 0; k < 4; ++k) sums[k] = _mm_xor_si128(sums[k], _mm_loadu_si128(at + i + k));
      }
      for (const __m128i& sum : sums)
        sinks[static_cast<size_t>(worker) * 8] ^= static_cast<uint64_t>(_mm_cvtsi128_si64(sum));
    });
    next = (next + kPieces) % pieces;
    done += kPieces * kPiece;
    now = Seconds();
  }
  // The sums must be used, or the loop may be left out.
  if (std::accumulate(sinks.begin(), sinks.end(), uint64_t{0}) == 42) fmt::print(stderr, " ");
  return static_cast<double>(done) / (now - start);
}

}  // namespace moraine::tools
