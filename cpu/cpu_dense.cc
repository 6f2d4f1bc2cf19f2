#include "cpu/cpu_dense.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>

#include "cpu/gemm/prefill_gemm.h"
#include "cpu/router.h"
#include "cpu/vector_ops.h"
#include "runtime/core/check.h"

namespace moraine {

CpuDense::CpuDense(const ModelShape& shape, const DenseWeights& weights, const DenseOptions& options,
                   const KernelSet& kernels, WorkerPool* pool, std::unique_ptr<KvPages> pages)
    : shape_(shape),
      weights_(weights),
      options_(options),
      kernels_(kernels),
      exact_(kernels),
      pool_(pool),
      pages_(std::move(pages)),
      rope_(MakeRopeTable(shape)),
      attention_(shape, pool->threads(), options.max_rows),
      mlp_(std::max(shape.dense_inter, shape.shared_inter()), options.max_rows),
      x_(options.max_rows, shape.hidden),
      normed_(options.max_rows, shape.hidden),
      q_latent_(options.max_rows, shape.q_lora),
      queries_(options.max_rows, shape.heads * shape.qk_head()),
      kv_(options.max_rows, shape.kv_values()),
      attended_(options.max_rows, shape.heads * shape.v_head),
      added_(options.max_rows, shape.hidden),
      shared_(options.max_rows, shape.hidden),
      router_logits_(options.max_rows, shape.experts),
      joined_(weights.mtp.empty() ? 0 : options.max_rows, 2 * shape.hidden),
      experts_(static_cast<size_t>(options.max_rows * shape.top_k)),
      gains_(experts_.size()),
      route_scratch_(static_cast<size_t>(2 * shape.experts + shape.router.groups)),
      guess_input_(kMostGuessRows, shape.hidden),
      guessed_(static_cast<size_t>(kMostGuessRows * shape.top_k)),
      guess_gains_(guessed_.size()),
      head_input_(options.max_logit_rows, shape.hidden),
      logits_(options.max_logit_rows, shape.vocab) {
  exact_.gemm = nullptr;
  exact_.dot_tile = {};
  PrepareGemm();
}

// What the products of a step will ask of oneDNN.
void CpuDense::PrepareGemm() {
  PrefillGemm* gemm = kernels_.gemm;
  if (gemm == nullptr) return;
  const auto prepare = [&](const MatView& w) {
    if (w.rows > 0) gemm->Prepare(w.format, w.columns);
  };
  int64_t columns = 0;
  for (const LayerWeights& layer : weights_.layers) {
    for (const MatView* w : {&layer.q, &layer.q_a, &layer.q_b, &layer.kv_a, &layer.kv_b, &layer.o}) {
      prepare(*w);
      columns = std::max(columns, w->columns);
    }
    for (const MlpWeights* mlp : {&layer.dense_mlp, &layer.shared}) {
      prepare(mlp->gate);
      prepare(mlp->down);
    }
  }
  for (const MtpWeights& mtp : weights_.mtp) {
    prepare(mtp.projection);
    columns = std::max(columns, mtp.projection.columns);
  }
  gemm->Reserve(options_.max_rows, std::max(columns, shape_.hidden),
                std::max(shape_.dense_inter, shape_.shared_inter()));
}

void CpuDense::TakeRows(std::span<const SequenceRows> sequences) {
  sequences_.assign(sequences.begin(), sequences.end());
  rows_ = 0;
  for (const SequenceRows& sequence : sequences) {
    MORAINE_CHECK_EQ(sequence.first_row, rows_);
    rows_ += sequence.rows;
  }
  MORAINE_CHECK(rows_ > 0 && rows_ <= options_.max_rows);
  single_rows_ = AreSingleRows(sequences);
}

Status CpuDense::Begin(std::span<const SequenceRows> sequences, std::span<const float> embedded) {
  TakeRows(sequences);
  MORAINE_CHECK_EQ(embedded.size(), rows_ * shape_.hidden);
  std::copy(embedded.begin(), embedded.end(), x_.values.begin());
  return {};
}

Status CpuDense::BeginMtp(LayerId layer, std::span<const SequenceRows> sequences,
                          std::span<const float> embedded, std::span<const float> hidden) {
  TakeRows(sequences);
  const MtpWeights& mtp = weights_.mtp.at(static_cast<size_t>(layer.value - shape_.layers));
  const auto h = static_cast<size_t>(shape_.hidden);
  for (int32_t t = 0; t < rows_; ++t) {
    const std::span<float> row = joined_.Row(t);
    RmsNorm(embedded.subspan(static_cast<size_t>(t) * h, h), mtp.embed_norm, shape_.norm_eps, row.first(h));
    RmsNorm(hidden.subspan(static_cast<size_t>(t) * h, h), mtp.hidden_norm, shape_.norm_eps, row.last(h));
  }
  Project(mtp.projection, joined_, &x_);
  return {};
}

void CpuDense::Normalise(Buffer& in, std::span<const float> gain, float eps, Buffer* out) {
  const auto width = gain.size();
  for (int32_t t = 0; t < rows_; ++t) RmsNorm(in.Row(t).first(width), gain, eps, out->Row(t).first(width));
}

// What multiplies `w` in this step.
const KernelSet& CpuDense::StepKernels(const MatView& w) const {
  const bool tiles = kernels_.gemm != nullptr && kernels_.gemm->Takes(w, 1);
  return single_rows_ && !tiles ? exact_ : kernels_;
}

void CpuDense::Project(const MatView& w, Buffer& in, Buffer* out) {
  Multiply(*pool_, StepKernels(w), w, in.Rows(rows_), rows_, out->Rows(rows_));
}

// queries = rotated q projection of the normed rows, through its own latent where the model has one.
void CpuDense::Queries(const LayerWeights& layer) {
  if (shape_.q_lora == 0) {
    Project(layer.q, normed_, &queries_);
  } else {
    Project(layer.q_a, normed_, &q_latent_);
    Normalise(q_latent_, layer.q_a_norm, shape_.latent_norm_eps, &q_latent_);
    Project(layer.q_b, q_latent_, &queries_);
  }
  const auto head = static_cast<size_t>(shape_.qk_head());
  const auto rope = static_cast<size_t>(shape_.qk_rope);
  for (const SequenceRows& sequence : sequences_) {
    for (int32_t i = 0; i < sequence.rows; ++i) {
      const std::span<float> row = queries_.Row(sequence.first_row + i);
      for (size_t h = 0; h < static_cast<size_t>(shape_.heads); ++h) {
        Rotate(rope_, sequence.first_position + i, row.subspan(h * head, head).last(rope));
      }
    }
  }
}

// The compressed cache row of every new position: normed latent, rotated key part.
void CpuDense::StoreKv(const LayerWeights& layer, LayerId id) {
  Project(layer.kv_a, normed_, &kv_);
  Normalise(kv_, layer.kv_a_norm, shape_.latent_norm_eps, &kv_);
  for (const SequenceRows& sequence : sequences_) {
    for (int32_t i = 0; i < sequence.rows; ++i) {
      const std::span<float> row = kv_.Row(sequence.first_row + i);
      const std::span<float> rope = row.last(static_cast<size_t>(shape_.qk_rope));
      Rotate(rope_, sequence.first_position + i, rope);
      pages_->Store(id, sequence.pages, sequence.first_position + i,
                    row.first(static_cast<size_t>(shape_.kv_lora)), rope);
    }
  }
}

Status CpuDense::Attend(LayerId id) {
  const LayerWeights& layer = Layer(id);
  Normalise(x_, layer.input_norm, shape_.norm_eps, &normed_);
  Queries(layer);
  StoreKv(layer, id);
  attention_.Run(*pool_, kernels_, layer.kv_b, id, *pages_, sequences_, queries_.values.data(),
                 attended_.values.data());
  Project(layer.o, attended_, &added_);
  for (int64_t i = 0; i < rows_ * shape_.hidden; ++i)
    x_.values[static_cast<size_t>(i)] += added_.values[static_cast<size_t>(i)];
  Normalise(x_, layer.post_attention_norm, shape_.norm_eps, &normed_);
  return {};
}

Status CpuDense::DenseMlp(LayerId id) {
  const MlpWeights& mlp = Layer(id).dense_mlp;
  mlp_.Run(*pool_, StepKernels(mlp.gate), mlp, normed_.Rows(rows_), rows_, added_.Rows(rows_));
  for (int64_t i = 0; i < rows_ * shape_.hidden; ++i)
    x_.values[static_cast<size_t>(i)] += added_.values[static_cast<size_t>(i)];
  return {};
}

Result<Routing> CpuDense::Route(LayerId id) {
  const LayerWeights& layer = Layer(id);
  Multiply(*pool_, exact_, layer.router, normed_.Rows(rows_), rows_, router_logits_.Rows(rows_));
  const auto top_k = static_cast<size_t>(shape_.top_k);
  for (int32_t t = 0; t < rows_; ++t) {
    if (!AllFinite(router_logits_.Row(t))) {
      return Fail(ErrorKind::kInternal,
                  fmt::format("router of layer {}: NaN or infinity in the logits of row {}; the weights or "
                              "an earlier layer are "
                              "damaged (moraine inspect --check-tensors looks for bad values)",
                              id.value, t));
    }
    const auto at = static_cast<size_t>(t) * top_k;
    ChooseExperts(shape_.router, router_logits_.Row(t), layer.router_bias,
                  std::span(experts_).subspan(at, top_k), std::span(gains_).subspan(at, top_k),
                  route_scratch_);
  }
  return Routing{.rows = rows_,
                 .top_k = shape_.top_k,
                 .experts = experts_.data(),
                 .weights = gains_.data(),
                 .inputs = normed_.values.data()};
}

Status CpuDense::SharedMlp(LayerId id) {
  if (shape_.shared_experts == 0) return {};
  const MlpWeights& mlp = Layer(id).shared;
  mlp_.Run(*pool_, StepKernels(mlp.gate), mlp, normed_.Rows(rows_), rows_, shared_.Rows(rows_));
  return {};
}

Result<std::span<const int32_t>> CpuDense::GuessExperts(LayerId next) {
  MORAINE_CHECK(rows_ <= kMostGuessRows);
  const LayerWeights& layer = Layer(next);
  const auto top_k = static_cast<size_t>(shape_.top_k);
  for (int32_t t = 0; t < rows_; ++t) {
    const std::span<float> row = guess_input_.Row(t);
    std::copy_n(x_.Row(t).begin(), row.size(), row.begin());
    for (size_t i = 0; i < row.size() && shape_.shared_experts > 0; ++i) row[i] += shared_.Row(t)[i];
    RmsNorm(row, layer.post_attention_norm, shape_.norm_eps, row);
  }
  Multiply(*pool_, exact_, layer.router, guess_input_.Rows(rows_), rows_, router_logits_.Rows(rows_));
  for (int32_t t = 0; t < rows_; ++t) {
    const auto at = static_cast<size_t>(t) * top_k;
    if (!AllFinite(router_logits_.Row(t))) return std::span<const int32_t>();
    ChooseExperts(shape_.router, router_logits_.Row(t), layer.router_bias,
                  std::span(guessed_).subspan(at, top_k), std::span(guess_gains_).subspan(at, top_k),
                  route_scratch_);
  }
  return std::span<const int32_t>(guessed_).first(static_cast<size_t>(rows_) * top_k);
}

Status CpuDense::Combine(LayerId, std::span<const ExpertSum> sums) {
  const auto count = static_cast<size_t>(rows_ * shape_.hidden);
  if (shape_.shared_experts > 0) {
    for (size_t i = 0; i < count; ++i) x_.values[i] += shared_.values[i];
  }
  for (const ExpertSum& sum : sums) {
    MORAINE_RETURN_IF_ERROR(sum.done.Wait());
    MORAINE_CHECK(!sum.on_device);
    for (size_t i = 0; i < count; ++i) x_.values[i] += sum.values[i];
  }
  return {};
}

Result<std::span<const float>> CpuDense::Logits(std::span<const float> gain, std::span<const int32_t> rows) {
  const auto n = static_cast<int64_t>(rows.size());
  MORAINE_CHECK(n <= options_.max_logit_rows);
  for (int64_t i = 0; i < n; ++i) {
    RmsNorm(x_.Row(rows[static_cast<size_t>(i)]), gain, shape_.norm_eps, head_input_.Row(i));
  }
  Multiply(*pool_, exact_, weights_.head, head_input_.Rows(n), n, logits_.Rows(n));
  for (int64_t i = 0; i < n; ++i) {
    if (!AllFinite(logits_.Row(i))) {
      return Fail(ErrorKind::kInternal, fmt::format("logits of row {}: NaN or infinity; no token can be "
                                                    "chosen (moraine inspect --check-tensors looks "
                                                    "for bad values in the weights)",
                                                    rows[static_cast<size_t>(i)]));
    }
  }
  return std::span<const float>(logits_.values.data(), static_cast<size_t>(n * shape_.vocab));
}

Result<std::span<const float>> CpuDense::Head(std::span<const int32_t> rows) {
  return Logits(weights_.final_norm, rows);
}

Result<std::span<const float>> CpuDense::MtpHead(LayerId layer, std::span<const int32_t> rows) {
  return Logits(weights_.mtp.at(static_cast<size_t>(layer.value - shape_.layers)).final_norm, rows);
}

Result<std::span<const float>> CpuDense::Hidden() {
  Normalise(x_, weights_.final_norm, shape_.norm_eps, &normed_);
  return std::span<const float>(normed_.values.data(), static_cast<size_t>(rows_ * shape_.hidden));
}

Status CpuDense::CopyPage(PageId from, PageId to) {
  std::ranges::copy(pages_->Page(from), pages_->Page(to).begin());
  return {};
}

Status CpuDense::SavePage(PageId page, std::span<std::byte> out) {
  MORAINE_CHECK_EQ(out.size(), page_bytes());
  std::ranges::copy(pages_->Page(page), out.begin());
  return {};
}

Status CpuDense::LoadPage(PageId page, std::span<const std::byte> in) {
  MORAINE_CHECK_EQ(in.size(), page_bytes());
  std::ranges::copy(in, pages_->Page(page).begin());
  return {};
}

}  // namespace moraine
