#include "runtime/core/model_shape.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace moraine {
namespace {

constexpr int64_t kMaxDim = int64_t{1} << 24;     // any one dimension
constexpr int64_t kMaxMatrix = int64_t{1} << 40;  // any one product of two

Status Refuse(const char* field, auto value, const std::string& allowed) {
  return Fail(ErrorKind::kModel, fmt::format("config.json: {} is {}; expected {}", field, value, allowed));
}

Status Within(const char* field, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) return Refuse(field, value, fmt::format("{} to {}", low, high));
  return {};
}

Status Positive(const char* field, float value) {
  if (!(value > 0.f) || !std::isfinite(value)) return Refuse(field, value, "a finite number above 0");
  return {};
}

Status CheckAttention(const ModelShape& s) {
  MORAINE_RETURN_IF_ERROR(Within("num_attention_heads", s.heads, 1, 1 << 14));
  MORAINE_RETURN_IF_ERROR(Within("q_lora_rank", s.q_lora, 0, kMaxDim));
  MORAINE_RETURN_IF_ERROR(Within("kv_lora_rank", s.kv_lora, 1, kMaxDim));
  MORAINE_RETURN_IF_ERROR(Within("qk_nope_head_dim", s.qk_nope, 1, 1 << 16));
  MORAINE_RETURN_IF_ERROR(Within("qk_rope_head_dim", s.qk_rope, 2, 1 << 16));
  MORAINE_RETURN_IF_ERROR(Within("v_head_dim", s.v_head, 1, 1 << 16));
  if (s.qk_rope % 2 != 0)
    return Refuse("qk_rope_head_dim", s.qk_rope, "an even number: rotations act on pairs");
  return {};
}

Status CheckExperts(const ModelShape& s) {
  MORAINE_RETURN_IF_ERROR(Within("first_k_dense_replace", s.dense_layers, 0, s.layers));
  if (s.dense_layers > 0) MORAINE_RETURN_IF_ERROR(Within("intermediate_size", s.dense_inter, 1, kMaxDim));
  if (s.moe_layers() + s.mtp_layers == 0) return {};
  MORAINE_RETURN_IF_ERROR(Within("moe_intermediate_size", s.expert_inter, 1, kMaxDim));
  MORAINE_RETURN_IF_ERROR(Within("n_routed_experts", s.experts, 1, 1 << 16));
  MORAINE_RETURN_IF_ERROR(Within("num_experts_per_tok", s.top_k, 1, s.experts));
  MORAINE_RETURN_IF_ERROR(Within("n_shared_experts", s.shared_experts, 0, 1 << 10));
  MORAINE_RETURN_IF_ERROR(Positive("routed_scaling_factor", s.router.scale));
  if (s.router.group_score == GroupScore::kNone) return {};
  MORAINE_RETURN_IF_ERROR(Within("n_group", s.router.groups, 1, s.experts));
  MORAINE_RETURN_IF_ERROR(Within("topk_group", s.router.kept_groups, 1, s.router.groups));
  if (s.experts % s.router.groups != 0) {
    return Refuse("n_group", s.router.groups, fmt::format("a divisor of n_routed_experts, {}", s.experts));
  }
  const int32_t group = s.experts / s.router.groups;
  if (s.router.group_score == GroupScore::kTwoBest && group < 2 && s.router.groups > 1) {
    return Refuse("n_group", s.router.groups,
                  "groups of at least 2 experts: a group's score is the sum of its two best");
  }
  if (int64_t{group} * s.router.kept_groups < s.top_k) {
    return Refuse(
        "num_experts_per_tok", s.top_k,
        fmt::format("at most {}: the kept groups hold no more experts", group * s.router.kept_groups));
  }
  return {};
}

Status CheckRope(const ModelShape& s) {
  MORAINE_RETURN_IF_ERROR(Positive("rope_theta", s.rope.theta));
  if (!s.rope.yarn) return {};
  const YarnShape& yarn = *s.rope.yarn;
  MORAINE_RETURN_IF_ERROR(Positive("rope_scaling.factor", yarn.factor));
  MORAINE_RETURN_IF_ERROR(Positive("rope_scaling.beta_fast", yarn.beta_fast));
  MORAINE_RETURN_IF_ERROR(Positive("rope_scaling.beta_slow", yarn.beta_slow));
  MORAINE_RETURN_IF_ERROR(
      Within("rope_scaling.original_max_position_embeddings", yarn.original_context, 1, int64_t{1} << 40));
  for (const float mscale : {yarn.mscale, yarn.mscale_all_dim}) {
    if (!std::isfinite(mscale) || mscale < 0.f)
      return Refuse("rope_scaling.mscale", mscale, "a finite number, 0 or above");
  }
  return {};
}

float YarnMscale(float factor, float mscale) {
  return factor <= 1.f ? 1.f : 0.1f * mscale * std::log(factor) + 1.f;
}

}  // namespace

Status CheckShape(const ModelShape& s) {
  MORAINE_RETURN_IF_ERROR(Within("vocab_size", s.vocab, 1, kMaxDim));
  MORAINE_RETURN_IF_ERROR(Within("hidden_size", s.hidden, 1, kMaxDim));
  MORAINE_RETURN_IF_ERROR(Within("num_hidden_layers", s.layers, 1, 4096));
  MORAINE_RETURN_IF_ERROR(Within("num_nextn_predict_layers", s.mtp_layers, 0, 64));
  MORAINE_RETURN_IF_ERROR(Within("max_position_embeddings", s.context, 1, int64_t{1} << 30));
  MORAINE_RETURN_IF_ERROR(CheckAttention(s));
  MORAINE_RETURN_IF_ERROR(CheckExperts(s));
  MORAINE_RETURN_IF_ERROR(CheckRope(s));
  MORAINE_RETURN_IF_ERROR(Positive("rms_norm_eps", s.norm_eps));
  if (s.heads * (s.qk_head() + s.v_head) > kMaxDim || s.shared_inter() > kMaxDim) {
    return Refuse("num_attention_heads", s.heads, fmt::format("heads x head size of at most {}", kMaxDim));
  }
  const int64_t widest =
      std::max({s.vocab, s.dense_inter, s.shared_inter(), s.heads * (s.qk_head() + s.v_head)});
  if (widest * std::max({s.hidden, s.q_lora, s.kv_lora}) > kMaxMatrix) {
    return Refuse("hidden_size", s.hidden, fmt::format("no matrix of more than {} weights", kMaxMatrix));
  }
  if (s.fp8) {
    MORAINE_RETURN_IF_ERROR(Within("weight_block_size[0]", s.fp8->rows, 1, 1 << 16));
    MORAINE_RETURN_IF_ERROR(Within("weight_block_size[1]", s.fp8->columns, 1, 1 << 16));
  }
  for (const IntegerScheme& scheme : s.integer) {
    if (scheme.bits != 4 && scheme.bits != 8) return Refuse("weights.num_bits", scheme.bits, "4 or 8");
    MORAINE_RETURN_IF_ERROR(Within("weights.group_size", scheme.group, 0, kMaxDim));
  }
  for (const int32_t token : s.eos_tokens)
    MORAINE_RETURN_IF_ERROR(Within("eos_token_id", token, 0, s.vocab - 1));
  return Within("bos_token_id", s.bos_token, -1, s.vocab - 1);
}

float SoftmaxScale(const ModelShape& shape) {
  float scale = 1.f / std::sqrt(static_cast<float>(shape.qk_head()));
  if (shape.rope.yarn && shape.rope.yarn->mscale_all_dim != 0.f) {
    const float mscale = YarnMscale(shape.rope.yarn->factor, shape.rope.yarn->mscale_all_dim);
    scale *= mscale * mscale;
  }
  return scale;
}

RopeTable MakeRopeTable(const ModelShape& shape) {
  const int64_t pairs = shape.qk_rope / 2;
  const auto dims = static_cast<double>(shape.qk_rope);
  RopeTable table;
  table.inverse_frequency.resize(static_cast<size_t>(pairs));
  for (int64_t i = 0; i < pairs; ++i) {
    table.inverse_frequency[static_cast<size_t>(i)] = static_cast<float>(
        std::pow(static_cast<double>(shape.rope.theta), -2.0 * static_cast<double>(i) / dims));
  }
  if (!shape.rope.yarn) return table;

  // YaRN (arXiv 2309.00071, section 3.2): dimensions that turn often within the original context keep their
  // frequency, those that turn less than once are divided by the factor, a linear ramp lies between.
  const YarnShape& yarn = *shape.rope.yarn;
  const auto dimension_of_turns = [&](double turns) {
    return dims * std::log(static_cast<double>(yarn.original_context) / (turns * 2.0 * std::numbers::pi)) /
           (2.0 * std::log(static_cast<double>(shape.rope.theta)));
  };
  const double low = std::max(std::floor(dimension_of_turns(yarn.beta_fast)), 0.0);
  double high = std::min(std::ceil(dimension_of_turns(yarn.beta_slow)), dims - 1.0);
  if (low == high) high += 0.001;
  for (int64_t i = 0; i < pairs; ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    const double kept = static_cast<double>(table.inverse_frequency[static_cast<size_t>(i)]);
    table.inverse_frequency[static_cast<size_t>(i)] =
        static_cast<float>(kept / static_cast<double>(yarn.factor) * ramp + kept * (1.0 - ramp));
  }
  const bool both = yarn.mscale != 0.f && yarn.mscale_all_dim != 0.f;
  table.amplitude = both ? YarnMscale(yarn.factor, yarn.mscale) / YarnMscale(yarn.factor, yarn.mscale_all_dim)
                         : YarnMscale(yarn.factor, 1.f);
  return table;
}

}  // namespace moraine
