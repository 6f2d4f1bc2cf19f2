// ModelWork: what one token costs, in bytes and operations, from a checkpoint's headers.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/core/kv_format.h"
#include "runtime/core/quant_format.h"
#include "storage/checkpoint.h"

namespace moraine {

/// Matrices of one format.
struct FormatWork {
  WeightFormat format = WeightFormat::kBf16;
  int32_t group = 0;   // columns of an FP8 block or integer scale; 0: none, or one a row
  double bytes = 0;    // as stored, scales included
  double weights = 0;  // values
};

/// Doubles: sums of many matrices. Plain values.
struct ModelWork {
  // Read once a step, whatever its rows: attention, dense and shared MLPs, router.
  std::vector<FormatWork> dense;
  FormatWork head;        // read once a step too; multiplied with the rows whose logits are wanted
  FormatWork shared;      // of `dense`: the shared experts, which run while experts are read
  FormatWork expert;      // one routed expert
  double moe_layers = 0;  // MTP layers not counted
  double layers = 0;      // likewise
  double experts = 0;     // of a layer
  double top_k = 0;
  double attention_flops = 0;  // a token and cached position, all layers, as decode computes it (absorbed)
  double prompt_flops = 0;     // the same as prompts compute it (K and V expanded)
  double expansion_flops = 0;  // of a cached position, once a chunk of a prompt: K and V of all layers
  double kv_bytes = 0;         // a cached position, all layers
  double stored_bytes = 0;     // of all files' tensors that a run reads when all is loaded
  double embedding_row_bytes = 0;

  double dense_bytes() const;
  double dense_weights() const;
};

/// Reads headers only. The expert is the first MoE layer's first; MTP layers are left out.
ModelWork WorkOf(const Checkpoint& checkpoint, KvType kv_type);

/// The same model with its routed experts as integers of `bits` with a BF16 scale for `group` columns.
ModelWork WithIntegerExperts(const ModelWork& work, WeightFormat format, int32_t group);

}  // namespace moraine
