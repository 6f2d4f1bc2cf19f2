#include "cpu/expert_gemm.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "runtime/core/check.h"

namespace moraine {
namespace {

constexpr int64_t kPadding = 15;  // columns of an expert's last panel that may be empty

// Columns of all panels together: entries, and the padding of each expert, of which there are the fewer
// the more rows one must have.
int64_t MostColumns(const PrefillGemm& gemm, const ModelShape& shape, int64_t max_rows, WeightFormat format) {
  const int64_t entries = max_rows * shape.top_k;
  return entries + kPadding * std::min<int64_t>(shape.experts, entries / gemm.MinRows(format));
}

// Bytes of panels for `columns` of H or I, in the widest type that `formats` ask for.
int64_t MostBytes(const PrefillGemm* gemm, const ModelShape& shape, int64_t max_rows,
                  std::span<const WeightFormat> formats, int64_t width) {
  int64_t bytes = 0;
  if (gemm == nullptr) return bytes;
  for (const WeightFormat format : formats)
    bytes = std::max(bytes,
                     MostColumns(*gemm, shape, max_rows, format) * gemm->PanelBytes(format, 16, width) / 16);
  return bytes;
}

std::vector<WeightFormat> WithoutTile(const KernelSet& kernels, std::span<const WeightFormat> formats) {
  std::vector<WeightFormat> some;
  std::copy_if(formats.begin(), formats.end(), std::back_inserter(some),
               [&](WeightFormat format) { return !kernels.HasTile(format); });
  return some;
}

}  // namespace

ExpertGemm::ExpertGemm(const KernelSet& kernels, const ModelShape& shape, int32_t max_rows,
                       std::span<const WeightFormat> formats)
    : ExpertGemm(kernels.gemm, shape, max_rows, WithoutTile(kernels, formats)) {}

ExpertGemm::ExpertGemm(PrefillGemm* gemm, const ModelShape& shape, int32_t max_rows,
                       std::vector<WeightFormat> formats)
    : gemm_(formats.empty() ? nullptr : gemm),
      shape_(shape),
      formats_(std::move(formats)),
      sum_rows_(gemm == nullptr ? 0 : int64_t{max_rows} * shape.top_k),
      inputs_(MostBytes(gemm, shape, max_rows, formats_, shape.hidden)),
      hidden_(MostBytes(gemm, shape, max_rows, formats_, shape.expert_inter)) {
  for (const WeightFormat format : formats_) {
    if (gemm == nullptr) break;
    gemm->Prepare(format, shape.hidden);
    gemm->Prepare(format, shape.expert_inter);
  }
  const auto experts = static_cast<size_t>(shape.experts);
  at_.reserve(experts);
  taken_.reserve(experts);
  others_.reserve(experts);
  packs_.reserve(experts + static_cast<size_t>(int64_t{max_rows} * shape.top_k / TileGemm::kWidths.front()));
}

bool ExpertGemm::Takes(const MlpWeights& w, int64_t n) const {
  const bool mine = std::find(formats_.begin(), formats_.end(), w.gate.format) != formats_.end();
  return gemm_ != nullptr && mine && gemm_->Takes(w, n);
}

double ExpertGemm::Bytes(const KernelSet& kernels, const ModelShape& shape, int32_t max_rows,
                         std::span<const WeightFormat> formats) {
  const PrefillGemm* gemm = kernels.gemm;
  if (gemm == nullptr) return 0;
  // In doubles, since a hostile shape may pass 2^63.
  const double entries = static_cast<double>(max_rows) * static_cast<double>(shape.top_k);
  const double width = static_cast<double>(shape.hidden) + static_cast<double>(shape.expert_inter);
  double bytes = 0;
  for (const WeightFormat format : WithoutTile(kernels, formats)) {
    const double most =
        std::min(static_cast<double>(shape.experts), entries / static_cast<double>(gemm->MinRows(format)));
    bytes =
        std::max(bytes, (entries + kPadding * most) * width * static_cast<double>(gemm->ValueBytes(format)));
  }
  return bytes;
}

void ExpertGemm::Start(const ExpertBatch& batch, std::span<const int64_t> first_entries,
                       const float* const* x, float* sums, WorkerPool& pool) {
  at_.clear();
  taken_.clear();
  others_.clear();
  packs_.clear();
  std::byte* inputs = inputs_.data();
  std::byte* hidden = hidden_.data();
  double others = 0;
  for (size_t item = 0; item < batch.work.size(); ++item) {
    const ExpertWork& work = batch.work[item];
    const MlpWeights& w = work.slices.front().weights;
    const auto n = static_cast<int64_t>(work.rows.size());
    if (!Takes(w, batch.single_rows ? 1 : n)) {
      at_.push_back(-1);
      others_.push_back(item);
      others += 6.0 * static_cast<double>(n) * static_cast<double>(shape_.hidden) *
                static_cast<double>(shape_.expert_inter);
      continue;
    }
    const int64_t entry = first_entries[item];
    at_.push_back(static_cast<int64_t>(taken_.size()));
    for (int64_t panel = 0; panel < gemm_->Panels(w.gate.format, n); ++panel)
      packs_.push_back({taken_.size(), panel});
    for (int64_t i = 0; i < n; ++i)
      sum_rows_[entry + i] = sums + work.rows[static_cast<size_t>(i)] * shape_.hidden;
    taken_.push_back({item, entry, inputs, hidden});
    inputs += gemm_->PanelBytes(w.gate.format, n, shape_.hidden);
    hidden += gemm_->PanelBytes(w.gate.format, n, shape_.expert_inter);
  }
  if (taken_.empty()) return;
  MORAINE_CHECK(inputs - inputs_.data() <= inputs_.bytes() && hidden - hidden_.data() <= hidden_.bytes());
  gemm_->CountOther(others);

  const ExpertSlice& slice = batch.work[taken_.front().item].slices.front();
  const WeightFormat format = slice.weights.gate.format;
  const int threads = pool.threads_of(NodeId{0});
  gate_up_rows_ =
      gemm_->TileRows(format, slice.weights.gate.rows, static_cast<int64_t>(taken_.size()), threads);
  down_rows_ = gemm_->TileRows(format, slice.weights.down.rows, 1, threads);
  pool.ParallelFor(static_cast<int64_t>(packs_.size()), [&](int64_t task, int) {
    const Pack& pack = packs_[static_cast<size_t>(task)];
    const Taken& taken = taken_[pack.taken];
    const ExpertWork& work = batch.work[taken.item];
    gemm_->Pack(work.slices.front().weights.gate.format, x + taken.entry,
                static_cast<int64_t>(work.rows.size()), shape_.hidden, pack.panel, taken.inputs);
  });
}

int64_t ExpertGemm::GateUpTasks(const ExpertBatch& batch, NodeId node) const {
  return taken_.empty() ? 0 : static_cast<int64_t>(taken_.size()) * GateUpTiles(batch, node);
}

int64_t ExpertGemm::GateUpTiles(const ExpertBatch& batch, NodeId node) const {
  const int64_t rows = batch.work.front().slices[static_cast<size_t>(node.value)].weights.gate.rows;
  return (rows + gate_up_rows_ - 1) / gate_up_rows_;
}

// Tiles of one expert follow one another, so that its panels are shared in the last cache.
void ExpertGemm::GateUpTask(const ExpertBatch& batch, NodeId node, int64_t task, int worker) {
  const int64_t tiles = GateUpTiles(batch, node);
  const Taken& taken = taken_[static_cast<size_t>(task / tiles)];
  const ExpertWork& work = batch.work[taken.item];
  const ExpertSlice& slice = work.slices[static_cast<size_t>(node.value)];
  const int64_t begin = task % tiles * gate_up_rows_;
  const int64_t end = std::min(begin + gate_up_rows_, slice.weights.gate.rows);
  gemm_->GateUp(slice.weights, begin, end, taken.inputs, static_cast<int64_t>(work.rows.size()), taken.hidden,
                slice.inner_begin, shape_.expert_inter, worker);
}

void ExpertGemm::Down(const ExpertBatch& batch, size_t item, NodeId node, int64_t begin, int64_t end,
                      int worker) {
  const Taken& taken = taken_[static_cast<size_t>(at_[item])];
  const ExpertWork& work = batch.work[item];
  const ExpertSlice& slice = work.slices[static_cast<size_t>(node.value)];
  gemm_->Product(slice.weights.down, begin, end, taken.hidden, static_cast<int64_t>(work.rows.size()),
                 work.gains.data(), sum_rows_.data() + taken.entry, slice.hidden_begin, worker);
}

}  // namespace moraine
