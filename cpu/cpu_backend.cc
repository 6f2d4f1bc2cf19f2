#include "cpu/cpu_backend.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>

#include "cpu/cpu_dense.h"
#include "cpu/cpu_experts.h"
#include "cpu/cpu_quota.h"
#include "cpu/gemm/prefill_gemm.h"
#include "cpu/kernel_table.h"
#include "cpu/worker_pool.h"

namespace moraine {
namespace {

constexpr int kMaxThreads = 1024;

}  // namespace

struct CpuBackend::State {
  State(std::unique_ptr<Topology> topology_in, int threads, const KernelSet& set)
      : topology(std::move(topology_in)), pool(topology->Place(threads)), kernels(set) {
    for (int32_t n = 0; n < pool.nodes(); ++n) node_workers.push_back(pool.threads_of(NodeId{n}));
  }
  std::unique_ptr<Topology> topology;
  WorkerPool pool;
  std::vector<int> node_workers;
  KernelSet kernels;
  std::unique_ptr<PrefillGemm> gemm;  // null where oneDNN is of no use
  std::string no_gemm;                // then: why
};

CpuBackend::CpuBackend(std::unique_ptr<State> state) : state_(std::move(state)) {}
CpuBackend::~CpuBackend() = default;

Result<std::unique_ptr<CpuBackend>> CpuBackend::Create(const CpuOptions& options) {
  if (options.threads < 0 || options.threads > kMaxThreads) {
    return Fail(ErrorKind::kUsage,
                fmt::format("--threads is {}; expected 1 to {}, or 0 for all", options.threads, kMaxThreads));
  }
  if (options.switch_over < 0) {
    return Fail(
        ErrorKind::kUsage,
        fmt::format("--switch-over is {}; expected a number of rows from 1 on, or 0 for what was measured",
                    options.switch_over));
  }
  MORAINE_ASSIGN_OR_RETURN(
      KernelSet kernels,
      SelectKernels(options.isa, options.f32_activations ? Activations::kF32 : Activations::kAuto));
  if (options.switch_over > 0) kernels.q8_tile_rows.fill(options.switch_over);
  MORAINE_ASSIGN_OR_RETURN(std::unique_ptr<Topology> topology, Topology::Read(options.topology));
  const int threads = options.threads == 0 ? DefaultWorkers(*topology, CpuQuota()) : options.threads;
  auto state = std::make_unique<State>(std::move(topology), threads, kernels);
  if (const auto isa = GemmIsaFor(options.isa)) {
    auto gemm = PrefillGemm::Create({.isa = *isa,
                                     .f32_only = options.f32_activations,
                                     .workers = state->pool.threads(),
                                     .min_rows = options.switch_over});
    if (gemm.has_value()) {
      state->gemm = *std::move(gemm);
      state->kernels.gemm = state->gemm.get();
    } else {
      state->no_gemm = gemm.error().message;
    }
  } else {
    state->no_gemm = "isa \"scalar\" keeps to the scalar kernels";
  }
  return std::unique_ptr<CpuBackend>(new CpuBackend(std::move(state)));
}

int CpuBackend::threads() const { return state_->pool.threads(); }
const Topology& CpuBackend::topology() const { return *state_->topology; }
std::span<const int> CpuBackend::node_workers() const { return state_->node_workers; }

std::string CpuBackend::KernelNames() const {
  std::string names;
  for (int format = 0; format < kWeightFormats; ++format) {
    names +=
        fmt::format("{}{}: {}", names.empty() ? "" : ", ", Describe(static_cast<WeightFormat>(format)).name,
                    Name(state_->kernels.isa[static_cast<size_t>(format)]));
  }
  return names;
}

GemmReport CpuBackend::PrefillReport() const {
  GemmReport report;
  if (state_->gemm != nullptr) {
    report = state_->gemm->Report();
  } else {
    report.refused.push_back(state_->no_gemm);
  }
  const KernelSet& kernels = state_->kernels;
  for (size_t f = 0; f < kWeightFormats; ++f) {
    const auto format = static_cast<WeightFormat>(f);
    if (kernels.dot_tile[f] != nullptr) {
      report.own.push_back(fmt::format("own: amx f32 of {}, from {} row(s) on", Describe(format).name,
                                       kernels.dot_tile_rows[f]));
    }
    if (!kernels.HasTile(format)) continue;
    report.own.push_back(fmt::format("own: {} int8 of {}, from {} row(s) on", Name(kernels.q8_tile_isa[f]),
                                     Describe(format).name, kernels.q8_tile_rows[f]));
  }
  return report;
}

double CpuBackend::ScratchBytes(const ModelShape& s, const DenseOptions& options,
                                std::span<const WeightFormat> expert_formats, bool mtp) const {
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  const double rows = options.max_rows;
  const double hidden = number(s.hidden);
  const double per_row =
      5 * hidden + number(s.q_lora + s.heads * (s.qk_head() + s.v_head) + s.kv_values() + s.experts) +
      2 * number(std::max(s.dense_inter, s.shared_inter())) + 2 * number(s.top_k) + (mtp ? 2 * hidden : 0);
  const double logits = options.max_logit_rows * (hidden + number(s.vocab));
  const double attention = LatentAttention::ScratchValues(s, threads(), options.max_rows);
  const double gemm = state_->gemm == nullptr
                          ? 0
                          : PrefillGemm::WorkerBytes(threads()) +
                                PrefillGemm::ReserveBytes(
                                    rows, std::max({(mtp ? 2 : 1) * hidden, number(s.heads * s.v_head)}),
                                    number(std::max(s.dense_inter, s.shared_inter())));
  const double dots = number(state_->kernels.dot_bytes) * threads();
  return sizeof(float) * (rows * per_row + logits + attention) + gemm + dots +
         CpuExperts::Bytes(s, options.max_rows, expert_formats, state_->kernels, threads());
}

Result<std::unique_ptr<Dense>> CpuBackend::MakeDense(const ModelShape& shape, const DenseWeights& weights,
                                                     const DenseOptions& options) {
  const KvPages::Options kv{.layers = static_cast<int32_t>(weights.layers.size()),
                            .pages = options.pages,
                            .page_tokens = options.page_tokens,
                            .type = options.kv_type};
  MORAINE_ASSIGN_OR_RETURN(std::unique_ptr<KvPages> pages, KvPages::Create(shape, kv));
  return std::make_unique<CpuDense>(shape, weights, options, state_->kernels, &state_->pool,
                                    std::move(pages));
}

std::unique_ptr<Experts> CpuBackend::MakeExperts(const ModelShape& shape, int32_t max_rows,
                                                 std::span<const WeightFormat> formats) {
  return std::make_unique<CpuExperts>(shape, max_rows, formats, state_->kernels, &state_->pool);
}

}  // namespace moraine
