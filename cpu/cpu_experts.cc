#include "cpu/cpu_experts.h"

#include <algorithm>
#include <numeric>

#include "runtime/core/check.h"

namespace moraine {
namespace {

constexpr Q8Layout kLayouts[] = {Q8Layout::kPlain, Q8Layout::kPairs};

size_t Number(Q8Layout layout) { return static_cast<size_t>(layout); }

bool Uses(std::span<const WeightFormat> formats, const KernelSet& kernels, Q8Layout layout) {
  return std::any_of(formats.begin(), formats.end(), [&](WeightFormat format) {
    return kernels.Q8Dot(format) != nullptr && LayoutFor(format) == layout;
  });
}

// Rows of a task when `rows` of `count` matrices are shared out to `workers`.
int64_t TaskRows(int64_t rows, int64_t count, int workers) {
  constexpr int64_t kTasksEach = 8;
  const int64_t even = rows * count / (kTasksEach * workers) / kQ8Span * kQ8Span;
  return std::clamp(even, kQ8Span, CpuExperts::kMaxTaskRows);
}

// Asks for the beginning of what is read next; the kernels ask ahead within a matrix only.
void Prefetch(const MatView& w, int64_t row) {
  constexpr int64_t kBytes = 4096;
  const std::byte* at = w.Row(row);
  for (int64_t i = 0; i < std::min(kBytes, (w.rows - row) * w.row_bytes); i += 64)
    __builtin_prefetch(at + i, 0, 2);
}

}  // namespace

CpuExperts::CpuExperts(const ModelShape& shape, int32_t max_rows, std::span<const WeightFormat> formats,
                       const KernelSet& kernels, WorkerPool* pool)
    : shape_(shape),
      kernels_(kernels),
      pool_(pool),
      max_rows_(max_rows),
      gemm_(kernels, shape, max_rows, formats),
      inputs_{.rows = RowPointers(int64_t{max_rows} * shape.top_k)},
      hidden_{.rows = RowPointers(int64_t{max_rows} * shape.top_k)},
      gate_(static_cast<size_t>(int64_t{max_rows} * shape.top_k * shape.expert_inter)),
      up_(gate_.size()),
      gate_rows_(static_cast<size_t>(pool->nodes()), RowPointers(int64_t{max_rows} * shape.top_k)),
      up_rows_(gate_rows_),
      sums_(static_cast<size_t>(max_rows * shape.hidden)),
      expert_out_(static_cast<size_t>(pool->threads() * max_rows * kMaxTaskRows)),
      out_rows_(static_cast<size_t>(pool->threads()), RowPointers(max_rows)),
      apart_out_(static_cast<size_t>(shape.top_k * shape.hidden)) {
  pending_.reserve(static_cast<size_t>(shape.top_k));
  part_.reserve(static_cast<size_t>(shape.top_k));
  part_items_.reserve(static_cast<size_t>(shape.top_k));
  first_entries_.reserve(static_cast<size_t>(shape.experts));
  const int64_t entries = int64_t{max_rows} * shape.top_k;
  for (const Q8Layout layout : kLayouts) {
    if (!Uses(formats, kernels, layout)) continue;
    inputs_.q8[Number(layout)] = Q8Rows(max_rows, shape.hidden);
    inputs_.q8_rows[Number(layout)].resize(static_cast<size_t>(entries));
    hidden_.q8[Number(layout)] = Q8Rows(entries, shape.expert_inter);
    const Q8Row* rows = hidden_.q8[Number(layout)].rows();
    hidden_.q8_rows[Number(layout)].assign(rows, rows + entries);
  }
}

double CpuExperts::Bytes(const ModelShape& shape, int32_t max_rows, std::span<const WeightFormat> formats,
                         const KernelSet& kernels, int threads) {
  const double rows = max_rows;
  const double entries = rows * shape.top_k;
  const auto number = [](int64_t value) { return static_cast<double>(value); };
  double bytes = 4 * (entries * 2 * number(shape.expert_inter) + rows * number(shape.hidden) +
                      rows * threads * number(kMaxTaskRows) + number(shape.top_k) * number(shape.hidden)) +
                 entries * 3 * sizeof(float*) + ExpertGemm::Bytes(kernels, shape, max_rows, formats);
  if (std::any_of(formats.begin(), formats.end(), [&](WeightFormat f) { return kernels.HasTile(f); }))
    bytes += number(kQ8TileBytes) * threads;
  for (const Q8Layout layout : kLayouts) {
    if (!Uses(formats, kernels, layout)) continue;
    bytes += rows * number(Q8Rows::BytesPerRow(shape.hidden)) +
             entries * (number(Q8Rows::BytesPerRow(shape.expert_inter)) + 3 * sizeof(Q8Row));
  }
  return bytes;
}

// In parts: each is what has come of the weights, in order, so that what is there is computed while the rest
// is read.
Result<ExpertSum> CpuExperts::Run(const ExpertBatch& batch) {
  MORAINE_CHECK(batch.rows <= max_rows_);
  const ExpertSum sum{.done = {}, .values = sums_.data(), .on_device = false};
  if (batch.work.empty()) {
    if (!batch.resume) std::fill_n(sums_.begin(), batch.rows * shape_.hidden, 0.f);
    return sum;
  }
  if (!batch.resume) QuantiseInputs(batch);
  const auto any = [&](auto&& what) { return std::any_of(batch.work.begin(), batch.work.end(), what); };
  if (batch.rows == 1 && any([](const ExpertWork& work) { return !work.ready.Done(); }) &&
      !any([&](const ExpertWork& work) { return gemm_.Takes(work.slices.front().weights, 1); })) {
    MORAINE_RETURN_IF_ERROR(RunAsTheyCome(batch));
    return sum;
  }
  ExpertBatch part = batch;
  for (size_t done = 0; done < batch.work.size(); done += part.work.size()) {
    MORAINE_ASSIGN_OR_RETURN(const size_t ready, WaitForSome(batch.work.subspan(done)));
    part.work = batch.work.subspan(done, ready);
    RunPart(part);
    part.resume = true;
  }
  return sum;
}

// Waits for the first, and takes those behind it that have come as well.
Result<size_t> CpuExperts::WaitForSome(std::span<const ExpertWork> work) {
  size_t ready = 0;
  do {
    MORAINE_RETURN_IF_ERROR(work[ready].ready.Wait());
    ++ready;
  } while (ready < work.size() && work[ready].ready.Done());
  return ready;
}

// One row: whichever has come is computed, each expert's part kept apart; they are added in order at the end.
// So when the last weights come, only theirs is left to do.
Status CpuExperts::RunAsTheyCome(const ExpertBatch& batch) {
  pending_.assign(batch.work.size(), 0);
  std::iota(pending_.begin(), pending_.end(), size_t{0});
  while (!pending_.empty()) {
    part_.clear();
    part_items_.clear();
    const bool none = std::none_of(pending_.begin(), pending_.end(),
                                   [&](size_t item) { return batch.work[item].ready.Done(); });
    for (size_t& item : pending_) {
      const ExpertWork& work = batch.work[item];
      if (none ? !part_.empty() : !work.ready.Done()) continue;
      MORAINE_RETURN_IF_ERROR(work.ready.Wait());
      part_.push_back(work);
      part_items_.push_back(item);
      item = batch.work.size();
    }
    std::erase(pending_, batch.work.size());
    ExpertBatch part = batch;
    part.work = part_;
    apart_ = true;
    RunPart(part);
    apart_ = false;
  }
  if (!batch.resume) std::fill_n(sums_.begin(), shape_.hidden, 0.f);
  for (size_t item = 0; item < batch.work.size(); ++item) {
    const float gain = batch.work[item].gains.front();
    const float* out = Apart(item);
    for (int64_t r = 0; r < shape_.hidden; ++r) sums_[static_cast<size_t>(r)] += gain * out[r];
  }
  return {};
}

void CpuExperts::RunPart(const ExpertBatch& batch) {
  single_rows_ = batch.single_rows;
  Index(batch);
  const std::span<const ExpertSlice> cut = batch.work.front().slices;
  const auto slice = [&](NodeId node) -> const ExpertSlice& { return cut[static_cast<size_t>(node.value)]; };
  // Whole blocks, so that a task can quantise what it made.
  const int workers = pool_->threads() / pool_->nodes();
  gate_up_rows_ = TaskRows(cut.front().weights.gate.rows, static_cast<int64_t>(batch.work.size()), workers);
  gemm_.Start(batch, first_entries_, inputs_.rows.data(), sums_.data(), *pool_);
  // The large tasks first.
  pool_->ForNodes([&](NodeId node) { return gemm_.GateUpTasks(batch, node) + GateUpTasks(batch, node); },
                  [&](NodeId node, int64_t task, int worker) {
                    const int64_t large = gemm_.GateUpTasks(batch, node);
                    task < large ? gemm_.GateUpTask(batch, node, task, worker)
                                 : GateUpTask(batch, node, task - large);
                  });
  const int64_t down_rows =
      gemm_.any() ? gemm_.down_rows() : TaskRows(cut.front().weights.down.rows, 1, workers);
  pool_->ForNodes([&](NodeId node) { return (slice(node).weights.down.rows + down_rows - 1) / down_rows; },
                  [&](NodeId node, int64_t task, int worker) {
                    const int64_t end = std::min((task + 1) * down_rows, slice(node).weights.down.rows);
                    DownTask(batch, node, task * down_rows, end, worker);
                  });
}

// Gives each (row, expert) pair its entry.
void CpuExperts::Index(const ExpertBatch& batch) {
  int64_t entries = 0;
  first_entries_.clear();
  for (const ExpertWork& work : batch.work) {
    first_entries_.push_back(entries);
    for (const int32_t row : work.rows) {
      for (const Q8Layout layout : kLayouts) {
        const size_t l = Number(layout);
        if (!inputs_.q8[l].empty()) inputs_.q8_rows[l][static_cast<size_t>(entries)] = inputs_.q8[l][row];
      }
      inputs_.rows[entries++] = const_cast<float*>(batch.inputs) + row * shape_.hidden;
    }
  }
  MORAINE_CHECK(entries <= int64_t{max_rows_} * shape_.top_k);
  hidden_.rows.Fill(gate_.data(), shape_.expert_inter, entries);
  MORAINE_CHECK_EQ(batch.work.front().slices.size(), pool_->nodes());
  for (size_t node = 0; node < gate_rows_.size(); ++node) {
    const int64_t begin = batch.work.front().slices[node].inner_begin;
    gate_rows_[node].Fill(gate_.data() + begin, shape_.expert_inter, entries);
    up_rows_[node].Fill(up_.data() + begin, shape_.expert_inter, entries);
  }
}

// Each row once, however many experts it has; a single one is not worth waking anybody.
void CpuExperts::QuantiseInputs(const ExpertBatch& batch) {
  for (const Q8Layout layout : kLayouts) {
    const Q8Rows& out = inputs_.q8[Number(layout)];
    if (out.empty()) continue;
    pool_->ParallelFor(batch.rows, [&](int64_t row, int) {
      kernels_.quantise(batch.inputs + row * shape_.hidden, shape_.hidden, 0, shape_.hidden, layout,
                        out[row]);
    });
  }
}

void CpuExperts::Multiply(const MatView& w, int64_t begin, int64_t end, const Operand& x, int64_t first_entry,
                          int64_t n, float* const* y) const {
  if (Quantised(w)) {
    kernels_.Q8Dot(w.format, single_rows_ ? 1 : n)(
        w, begin, end, x.q8_rows[Number(LayoutFor(w.format))].data() + first_entry, n, y);
  } else {
    kernels_.Dot(w.format, single_rows_ ? 1 : n)(w, begin, end, x.rows.data() + first_entry, n, y);
  }
}

int64_t CpuExperts::GateUpTasks(const ExpertBatch& batch, NodeId node) const {
  const int64_t rows = batch.work.front().slices[static_cast<size_t>(node.value)].weights.gate.rows;
  return static_cast<int64_t>(gemm_.Others().size()) * ((rows + gate_up_rows_ - 1) / gate_up_rows_);
}

void CpuExperts::GateUpTask(const ExpertBatch& batch, NodeId node, int64_t task) {
  const auto at_node = static_cast<size_t>(node.value);
  const int64_t slice_rows = batch.work.front().slices[at_node].weights.gate.rows;
  const int64_t blocks = (slice_rows + gate_up_rows_ - 1) / gate_up_rows_;
  const size_t item = gemm_.Others()[static_cast<size_t>(task / blocks)];
  const ExpertWork& work = batch.work[item];
  const ExpertSlice& slice = work.slices[at_node];
  const MlpWeights& w = slice.weights;
  const auto n = static_cast<int64_t>(work.rows.size());
  const int64_t entry = first_entries_[item];
  const int64_t begin = task % blocks * gate_up_rows_;
  const int64_t end = std::min(begin + gate_up_rows_, w.gate.rows);
  float* const* gate = gate_rows_[at_node].data() + entry;
  float* const* up = up_rows_[at_node].data() + entry;
  Prefetch(w.up, begin);
  Multiply(w.gate, begin, end, inputs_, entry, n, gate);
  Multiply(w.up, begin, end, inputs_, entry, n, up);
  for (int64_t i = 0; i < n; ++i) {
    kernels_.silu(gate[i] + begin, up[i] + begin, end - begin, gate[i] + begin);
    if (Quantised(w.down))
      QuantiseHidden(w.down, entry + i, slice.inner_begin + begin, slice.inner_begin + end);
  }
}

// Columns [begin, end) of what the second wave multiplies: this task has just made them.
void CpuExperts::QuantiseHidden(const MatView& down, int64_t entry, int64_t begin, int64_t end) {
  const Q8Layout layout = LayoutFor(down.format);
  kernels_.quantise(hidden_.rows[entry], shape_.expert_inter, begin, end, layout,
                    hidden_.q8[Number(layout)][entry]);
}

void CpuExperts::DownTask(const ExpertBatch& batch, NodeId node, int64_t begin, int64_t end, int worker) {
  const ExpertSlice& cut = batch.work.front().slices[static_cast<size_t>(node.value)];
  float* sums = sums_.data() + cut.hidden_begin + begin;
  for (int64_t t = 0; t < batch.rows && !batch.resume && !apart_; ++t)
    std::fill_n(sums + t * shape_.hidden, end - begin, 0.f);
  for (size_t item = 0; item < batch.work.size(); ++item) {
    if (item + 1 < batch.work.size())
      Prefetch(batch.work[item + 1].slices[static_cast<size_t>(node.value)].weights.down, begin);
    if (gemm_.Takes(item)) {
      gemm_.Down(batch, item, node, begin, end, worker);
    } else {
      for (int64_t from = begin; from < end; from += kMaxTaskRows)
        AddDown(batch, item, node, from, std::min(from + kMaxTaskRows, end), worker);
    }
  }
}

// sums += gain * down(hidden) of one expert, by the kernels; at most kMaxTaskRows rows of its slice.
void CpuExperts::AddDown(const ExpertBatch& batch, size_t item, NodeId node, int64_t begin, int64_t end,
                         int worker) {
  const ExpertWork& work = batch.work[item];
  const ExpertSlice& slice = work.slices[static_cast<size_t>(node.value)];
  const MatView down = slice.weights.down.Rows(begin, end);
  const auto n = static_cast<int64_t>(work.rows.size());
  RowPointers& out_rows = out_rows_[static_cast<size_t>(worker)];
  if (apart_) {
    float* part = Apart(part_items_[item]) + slice.hidden_begin + begin;
    Multiply(down, 0, end - begin, hidden_, first_entries_[item], 1, out_rows.Fill(part, 0, 1));
    return;
  }
  float* out = expert_out_.data() + int64_t{worker} * max_rows_ * kMaxTaskRows;
  Multiply(down, 0, end - begin, hidden_, first_entries_[item], n, out_rows.Fill(out, kMaxTaskRows, n));
  float* sums = sums_.data() + slice.hidden_begin + begin;
  for (int64_t i = 0; i < n; ++i) {
    float* sum = sums + work.rows[static_cast<size_t>(i)] * shape_.hidden;
    const float gain = work.gains[static_cast<size_t>(i)];
    for (int64_t r = 0; r < end - begin; ++r) sum[r] += gain * out[i * kMaxTaskRows + r];
  }
}

}  // namespace moraine
