#include "tools/bench/prefill_bench.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>
#include <random>

#include "cpu/cpu_experts.h"
#include "cpu/gemm/plain_gemm.h"
#include "cpu/gemm/prefill_gemm.h"

namespace moraine::tools {
namespace {

constexpr int32_t kTopK = 8;

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

// Calls `once` for about `seconds`, at least once; calls a second.
template <typename Once>
double Rate(double seconds, Once&& once) {
  const double start = Seconds();
  double now = start;
  int calls = 0;
  do {
    once();
    ++calls;
    now = Seconds();
  } while (now - start < seconds);
  return calls / (now - start);
}

}  // namespace

Result<std::vector<PrefillRow>> MeasurePrefill(const PrefillBench& bench, const KernelSet& kernels,
                                               WorkerPool& pool, std::span<const int32_t> tokens) {
  std::vector<PrefillRow> results;
  const MlpWeights& first = bench.expert(0).front().weights;
  ModelShape shape;
  shape.hidden = first.gate.columns;
  shape.expert_inter = first.gate.rows;
  shape.experts = 256;
  shape.top_k = kTopK;
  const GemmType type = kernels.gemm->ValueBytes(bench.weight_format) == 2 ? GemmType::kBf16 : GemmType::kF32;
  for (const int32_t n : tokens) {
    CpuExperts experts(shape, n, {{bench.weight_format}}, kernels, &pool);
    MORAINE_ASSIGN_OR_RETURN(
        const std::unique_ptr<PlainGemm> plain,
        PlainGemm::Create(
            type, {.rows = n, .hidden = shape.hidden, .inner = shape.expert_inter, .experts = kTopK}, pool));
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    std::vector<float> inputs(static_cast<size_t>(n * shape.hidden));
    for (float& value : inputs) value = normal(random);
    std::vector<int32_t> rows(static_cast<size_t>(n));
    std::iota(rows.begin(), rows.end(), 0);
    const std::vector<float> gains(rows.size(), 0.3f);
    std::vector<ExpertWork> work(kTopK);
    int64_t next = 0;
    bool finite = true;
    const auto layer = [&] {
      for (int32_t k = 0; k < kTopK; ++k) {
        work[static_cast<size_t>(k)] = {
            .expert = ExpertId{k}, .slices = bench.expert(next), .rows = rows, .gains = gains, .ready = {}};
        next = (next + 1) % bench.experts;
      }
      const auto sum = experts.Run({.layer = LayerId{0}, .rows = n, .inputs = inputs.data(), .work = work});
      finite = finite && sum.has_value() && std::isfinite(sum->values[0]);
    };
    layer();
    plain->Run(pool);
    std::vector<double> ours;
    std::vector<double> theirs;
    std::vector<double> share;
    const double part = bench.seconds / bench.rounds / 2;
    for (int round = 0; round < bench.rounds; ++round) {
      theirs.push_back(1e-9 * plain->Flops() * Rate(part, [&] { plain->Run(pool); }));
      ours.push_back(1e-9 * plain->Flops() * Rate(part, layer));
      share.push_back(ours.back() / theirs.back());
    }
    if (!finite) return Fail(ErrorKind::kInternal, "the experts gave no finite number");
    results.push_back(
        {.format = bench.format,
         .implementation = kernels.HasTile(bench.weight_format)
                               ? fmt::format("own: {} int8", Name(kernels.IsaFor(bench.weight_format, n)))
                               : plain->implementation(),
         .tokens = n,
         .gflops = Median(ours),
         .plain_gflops = Median(theirs),
         .share = Median(share)});
  }
  return results;
}

}  // namespace moraine::tools
