// Dense on the CPU: the default without a GPU, and the oracle of the CUDA implementation.
#pragma once

#include <memory>
#include <vector>

#include "cpu/gated_mlp.h"
#include "cpu/kernel_table.h"
#include "cpu/kv_pages.h"
#include "cpu/mla.h"
#include "cpu/product.h"
#include "cpu/worker_pool.h"
#include "runtime/core/dense.h"

namespace moraine {

/// Contract: runtime/core/dense.h. Every call is done when it returns. Memory is taken in the constructor.
class CpuDense final : public Dense {
 public:
  CpuDense(const ModelShape& shape, const DenseWeights& weights, const DenseOptions& options,
           const KernelSet& kernels, WorkerPool* pool, std::unique_ptr<KvPages> pages);

  Status Begin(std::span<const SequenceRows> sequences, std::span<const float> embedded) override;
  Status Attend(LayerId layer) override;
  Result<Routing> Route(LayerId layer) override;
  Status DenseMlp(LayerId layer) override;
  Status SharedMlp(LayerId layer) override;
  Result<std::span<const int32_t>> GuessExperts(LayerId next) override;
  Status Combine(LayerId layer, std::span<const ExpertSum> sums) override;
  Result<std::span<const float>> Head(std::span<const int32_t> rows) override;
  Result<std::span<const float>> Hidden() override;
  Status BeginMtp(LayerId layer, std::span<const SequenceRows> sequences, std::span<const float> embedded,
                  std::span<const float> hidden) override;
  Result<std::span<const float>> MtpHead(LayerId layer, std::span<const int32_t> rows) override;
  Status CopyPage(PageId from, PageId to) override;
  int64_t page_bytes() const override { return pages_->page_bytes(); }
  Status SavePage(PageId page, std::span<std::byte> out) override;
  Status LoadPage(PageId page, std::span<const std::byte> in) override;

 private:
  /// A row-major f32 matrix of max_rows rows with pointers to them.
  struct Buffer {
    Buffer(int64_t max_rows, int64_t width_in)
        : width(width_in), values(static_cast<size_t>(max_rows * width_in)), pointers(max_rows) {}
    std::span<float> Row(int64_t row) { return {values.data() + row * width, static_cast<size_t>(width)}; }
    float* const* Rows(int64_t rows) { return pointers.Fill(values.data(), width, rows); }
    int64_t width;
    std::vector<float> values;
    RowPointers pointers;
  };

  const LayerWeights& Layer(LayerId layer) const { return weights_.layers[static_cast<size_t>(layer.value)]; }
  void PrepareGemm();
  void TakeRows(std::span<const SequenceRows> sequences);
  void Normalise(Buffer& in, std::span<const float> gain, float eps, Buffer* out);
  const KernelSet& StepKernels(const MatView& w) const;
  void Project(const MatView& w, Buffer& in, Buffer* out);
  void Queries(const LayerWeights& layer);
  void StoreKv(const LayerWeights& layer, LayerId id);
  Result<std::span<const float>> Logits(std::span<const float> gain, std::span<const int32_t> rows);

  const ModelShape& shape_;
  DenseWeights weights_;
  DenseOptions options_;
  KernelSet kernels_;
  // Without tiles: the router and the head decide, so their bits do not depend on the rows; nor do those of
  // any product in a step of single rows.
  KernelSet exact_;
  WorkerPool* pool_;
  std::unique_ptr<KvPages> pages_;
  RopeTable rope_;
  LatentAttention attention_;
  GatedMlp mlp_;

  int32_t rows_ = 0;  // T of the step
  bool single_rows_ = false;
  std::vector<SequenceRows> sequences_;
  Buffer x_;                      // residual stream [T, H]
  Buffer normed_;                 // [T, H]
  Buffer q_latent_;               // [T, q_lora]
  Buffer queries_;                // [T, N (nope+P)]
  Buffer kv_;                     // [T, R+P]
  Buffer attended_;               // [T, N v_head]
  Buffer added_;                  // [T, H] what a sub-layer adds
  Buffer shared_;                 // [T, H]
  Buffer router_logits_;          // [T, E]
  Buffer joined_;                 // [T, 2H] MTP input; no rows without MTP
  std::vector<int32_t> experts_;  // [T, K]
  std::vector<float> gains_;      // [T, K]
  std::vector<float> route_scratch_;
  Buffer guess_input_;            // [kMostGuessRows, H]
  std::vector<int32_t> guessed_;  // [kMostGuessRows, K]
  std::vector<float> guess_gains_;
  Buffer head_input_;
  Buffer logits_;
};

}  // namespace moraine
