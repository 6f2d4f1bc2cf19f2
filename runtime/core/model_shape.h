// ModelShape: every number of a checkpoint's config.json that the runtime uses, checked for sense once.
//
// Shape letters used in all comments: T rows (tokens of a step), H hidden, I expert inner size, E routed
// experts, K experts per token, L layers, R latent (kv_lora), P rope dims, N heads, S positions in the cache,
// V vocabulary.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/core/ids.h"
#include "runtime/core/result.h"

namespace moraine {

enum class ScoreFunction { kSoftmax, kSigmoid };

/// How the score of a group of experts is formed before groups are cut.
enum class GroupScore {
  kNone,     // no cut: top-k over all experts
  kMaximum,  // V2 "group_limited_greedy"
  kTwoBest,  // V3 "noaux_tc": sum of the two best biased scores
};

struct RouterShape {
  ScoreFunction score = ScoreFunction::kSigmoid;
  GroupScore group_score = GroupScore::kTwoBest;
  bool correction_bias = true;  // e_score_correction_bias: enters the choice, never the weights
  int32_t groups = 1;           // n_group; divides E
  int32_t kept_groups = 1;      // topk_group
  bool normalise = true;        // norm_topk_prob: weights divided by their sum (+ 1e-20)
  float scale = 1.f;            // routed_scaling_factor
};

/// YaRN (rope_scaling of type "yarn").
struct YarnShape {
  float factor = 1.f;
  int64_t original_context = 0;
  float beta_fast = 32.f;
  float beta_slow = 1.f;
  float mscale = 1.f;
  float mscale_all_dim = 0.f;
};

struct RopeShape {
  float theta = 10000.f;
  std::optional<YarnShape> yarn;
};

/// Blocks of `weight_scale_inv` (quantization_config.weight_block_size).
struct Fp8Blocks {
  int32_t rows = 128;
  int32_t columns = 128;
};

/// One integer scheme of a compressed-tensors quantization_config. Which weights follow which scheme is what
/// the stored tensors say.
struct IntegerScheme {
  int32_t bits = 4;       // 4 or 8
  int64_t group = 0;      // columns that share a scale; 0: the whole row
  bool symmetric = true;  // false: a zero point is stored for each scale
  friend bool operator==(const IntegerScheme&, const IntegerScheme&) = default;
};

struct ModelShape {
  std::string architecture;  // config.json architectures[0]
  int64_t vocab = 0;         // V
  int64_t hidden = 0;        // H
  int32_t layers = 0;        // L, MTP layers not counted
  int32_t dense_layers = 0;  // first_k_dense_replace: layers [0, dense_layers) have one dense MLP
  int32_t mtp_layers = 0;    // num_nextn_predict_layers, stored as layers L, L+1, ...
  int32_t heads = 0;         // N
  int64_t q_lora = 0;        // 0: queries come from one projection
  int64_t kv_lora = 0;       // R
  int64_t qk_nope = 0;
  int64_t qk_rope = 0;  // P, even
  int64_t v_head = 0;
  int64_t dense_inter = 0;
  int64_t expert_inter = 0;    // I
  int32_t experts = 0;         // E
  int32_t top_k = 0;           // K
  int32_t shared_experts = 0;  // one MLP of shared_experts * I; 0: none
  RouterShape router;
  RopeShape rope;
  int64_t context = 0;     // max_position_embeddings
  float norm_eps = 1e-6f;  // input, post-attention and final norm
  float latent_norm_eps =
      1e-6f;  // q_a and kv_a norms: the published code uses its default here, not rms_norm_eps
  bool tied_embeddings = false;
  std::optional<Fp8Blocks> fp8;
  std::vector<IntegerScheme> integer;  // empty: no integer weights
  bool sparse = false;                 // moraine synth --sparse: holes stand for weights, never to be run
  int32_t bos_token = -1;              // -1: none
  std::vector<int32_t> eos_tokens;     // generation_config's list, or config's

  int64_t qk_head() const { return qk_nope + qk_rope; }
  int64_t shared_inter() const { return shared_experts * expert_inter; }
  /// Values the cache keeps per token and layer: R + P.
  int64_t kv_values() const { return kv_lora + qk_rope; }
  int64_t moe_layers() const { return layers - dense_layers; }
  bool IsMoe(LayerId layer) const { return layer.value >= dense_layers; }
  bool IsMtp(LayerId layer) const { return layer.value >= layers; }
};

/// Checks every bound and relation of the fields (sizes positive and below 2^31 where multiplied, K <= E,
/// groups divide E, kept groups hold K, even rope, finite positive scales ...). kModel errors name the config
/// field, its value and what is allowed. A shape that passes can be multiplied out in int64 without overflow.
Status CheckShape(const ModelShape& shape);

/// softmax scale of attention: qk_head^-1/2, times (0.1 mscale_all_dim ln(factor) + 1)^2 under YaRN with
/// mscale_all_dim.
float SoftmaxScale(const ModelShape& shape);

/// Rotation frequencies [P/2] and the factor on cos and sin (YaRN: mscale / mscale_all_dim, both run through
/// 0.1 m ln(factor) + 1), as the published yarn code computes them.
struct RopeTable {
  std::vector<float> inverse_frequency;
  float amplitude = 1.f;
};
RopeTable MakeRopeTable(const ModelShape& shape);

}  // namespace moraine
