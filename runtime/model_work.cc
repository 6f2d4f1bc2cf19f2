#include "runtime/model_work.h"

#include <algorithm>
#include <numeric>

#include "runtime/expert_layout.h"

namespace moraine {
namespace {

int32_t GroupOf(const StoredTensor& tensor) {
  if (!tensor.scales) return 0;
  const int32_t columns = tensor.scales->block_columns;
  return columns == tensor.columns ? 0 : columns;
}

void Add(const StoredTensor& tensor, FormatWork* work) {
  work->format = tensor.format;
  work->group = GroupOf(tensor);
  work->bytes += static_cast<double>(tensor.range.bytes + tensor.scale_bytes());
  work->weights += static_cast<double>(tensor.values());
}

void AddByFormat(const StoredTensor& tensor, std::vector<FormatWork>* all) {
  const auto same = std::find_if(all->begin(), all->end(), [&](const FormatWork& work) {
    return work.format == tensor.format && work.group == GroupOf(tensor);
  });
  Add(tensor, same == all->end() ? &all->emplace_back() : &*same);
}

bool ReadOnceAStep(TensorClass tensor_class) {
  switch (tensor_class) {
    case TensorClass::kAttention:
    case TensorClass::kRouter:
    case TensorClass::kDenseMlp:
    case TensorClass::kShared:
      return true;
    default:
      return false;
  }
}

}  // namespace

double ModelWork::dense_bytes() const {
  return std::accumulate(dense.begin(), dense.end(), 0.0,
                         [](double sum, const FormatWork& work) { return sum + work.bytes; });
}

double ModelWork::dense_weights() const {
  return std::accumulate(dense.begin(), dense.end(), 0.0,
                         [](double sum, const FormatWork& work) { return sum + work.weights; });
}

ModelWork WorkOf(const Checkpoint& checkpoint, KvType kv_type) {
  const ModelShape& s = checkpoint.shape();
  ModelWork work;
  const StoredTensor* embedding = nullptr;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    const auto bytes = static_cast<double>(tensor.range.bytes + tensor.scale_bytes());
    if (tensor.tensor_class == TensorClass::kEmbed) {
      embedding = &tensor;
    } else if (tensor.tensor_class != TensorClass::kMtp) {
      work.stored_bytes += bytes;
    }
    if (tensor.columns == 0) continue;  // norms and biases: nothing beside the rest
    if (tensor.tensor_class == TensorClass::kHead) Add(tensor, &work.head);
    if (tensor.tensor_class == TensorClass::kShared) Add(tensor, &work.shared);
    if (ReadOnceAStep(tensor.tensor_class)) AddByFormat(tensor, &work.dense);
  }
  if (embedding != nullptr) {
    work.embedding_row_bytes = static_cast<double>(embedding->row_bytes);
    if (s.tied_embeddings) Add(*embedding, &work.head);
  }
  work.layers = s.layers;
  work.moe_layers = static_cast<double>(s.moe_layers());
  work.experts = s.experts;
  work.top_k = s.top_k;
  if (s.moe_layers() > 0) {
    for (const StoredTensor* matrix : ExpertMatrices(checkpoint, LayerId{s.dense_layers}, ExpertId{0}))
      Add(*matrix, &work.expert);
  }
  const double layers = s.layers;
  const double heads = s.heads;
  const auto latent = static_cast<double>(s.kv_lora);
  const auto rope = static_cast<double>(s.qk_rope);
  const auto head = static_cast<double>(s.qk_nope + s.v_head);
  work.attention_flops = 2 * layers * heads * (2 * latent + rope);
  work.prompt_flops = 2 * layers * heads * (head + rope);
  work.expansion_flops = 2 * layers * heads * latent * head;
  work.kv_bytes = layers * static_cast<double>(KvRowBytes(s, kv_type));
  return work;
}

ModelWork WithIntegerExperts(const ModelWork& work, WeightFormat format, int32_t group) {
  ModelWork other = work;
  const double bits = format == WeightFormat::kInt4Group ? 4 : 8;
  constexpr double kScaleBits = 16;
  other.expert.format = format;
  other.expert.group = group;
  other.expert.bytes = work.expert.weights * (bits + kScaleBits / group) / 8;
  other.stored_bytes += work.moe_layers * work.experts * (other.expert.bytes - work.expert.bytes);
  return other;
}

}  // namespace moraine
