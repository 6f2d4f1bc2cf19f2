#include "tools/bench/read_bandwidth.h"

#include <emmintrin.h>
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <numeric>
#include <vector>

namespace moraine::tools {

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

namespace {

constexpr int64_t kPiece = int64_t{256} << 10;
constexpr int64_t kPieces = 256;  // of one job, on each node

uint64_t ReadPiece(const std::byte* piece) {
  const auto* at = reinterpret_cast<const __m128i*>(piece);
  __m128i sums[4] = {};
  for (int64_t i = 0; i < kPiece / 16; i += 4) {
    __builtin_prefetch(at + i + 256);
    for (int64_t k = 0; k < 4; ++k) sums[k] = _mm_xor_si128(sums[k], _mm_loadu_si128(at + i + k));
  }
  uint64_t all = 0;
  for (const __m128i& sum : sums) all ^= static_cast<uint64_t>(_mm_cvtsi128_si64(sum));
  return all;
}

// Calls job(first piece, sinks), which reads `bytes`, for about `seconds`; bytes a second.
template <typename Job>
double Rate(int threads, int64_t bytes, double seconds, Job&& job) {
  std::vector<uint64_t> sinks(static_cast<size_t>(threads) * 8);
  int64_t next = 0;
  double done = 0;
  const double start = Seconds();
  double now = start;
  while (now - start < seconds) {
    job(next, sinks);
    next += kPieces;
    done += static_cast<double>(bytes);
    now = Seconds();
  }
  // The sums must be used, or the loop may be left out.
  if (std::accumulate(sinks.begin(), sinks.end(), uint64_t{0}) == 42) fmt::print(stderr, " ");
  return done / (now - start);
}

const std::byte* Piece(std::span<const std::byte> memory, int64_t piece) {
  return memory.data() + piece % (static_cast<int64_t>(memory.size()) / kPiece) * kPiece;
}

}  // namespace

double ReadBandwidth(WorkerPool& pool, std::span<const std::byte> memory, double seconds) {
  return Rate(pool.threads(), kPieces * kPiece, seconds, [&](int64_t next, std::vector<uint64_t>& sinks) {
    pool.ParallelFor(kPieces, [&](int64_t task, int worker) {
      sinks[static_cast<size_t>(worker) * 8] ^= ReadPiece(Piece(memory, next + task));
    });
  });
}

double ReadBandwidth(WorkerPool& pool, std::span<const std::span<const std::byte>> memory, double seconds) {
  const int64_t bytes = static_cast<int64_t>(memory.size()) * kPieces * kPiece;
  return Rate(pool.threads(), bytes, seconds, [&](int64_t next, std::vector<uint64_t>& sinks) {
    pool.ForNodes([](NodeId) { return kPieces; },
                  [&](NodeId node, int64_t task, int worker) {
                    sinks[static_cast<size_t>(worker) * 8] ^=
                        ReadPiece(Piece(memory[static_cast<size_t>(node.value)], next + task));
                  });
  });
}

}  // namespace moraine::tools
