#include "storage/hf_names.h"

#include <fmt/core.h>

#include <charconv>

#include "runtime/core/check.h"

namespace moraine {
namespace {

enum class Scope { kModel, kLayer, kExpert };

struct NameRow {
  WeightRole role;
  Scope scope;
  std::string_view name;  // after "model.layers.N." or "model.layers.N.mlp.experts.N."
};

// As in the published modeling code; the last five as DeepSeek stores its MTP layer.
constexpr NameRow kNames[] = {
    {WeightRole::kEmbedding, Scope::kModel, "model.embed_tokens.weight"},
    {WeightRole::kFinalNorm, Scope::kModel, "model.norm.weight"},
    {WeightRole::kHead, Scope::kModel, "lm_head.weight"},
    {WeightRole::kExpertGate, Scope::kExpert, "gate_proj.weight"},
    {WeightRole::kExpertUp, Scope::kExpert, "up_proj.weight"},
    {WeightRole::kExpertDown, Scope::kExpert, "down_proj.weight"},
    {WeightRole::kInputNorm, Scope::kLayer, "input_layernorm.weight"},
    {WeightRole::kPostAttentionNorm, Scope::kLayer, "post_attention_layernorm.weight"},
    {WeightRole::kQ, Scope::kLayer, "self_attn.q_proj.weight"},
    {WeightRole::kQA, Scope::kLayer, "self_attn.q_a_proj.weight"},
    {WeightRole::kQANorm, Scope::kLayer, "self_attn.q_a_layernorm.weight"},
    {WeightRole::kQB, Scope::kLayer, "self_attn.q_b_proj.weight"},
    {WeightRole::kKvA, Scope::kLayer, "self_attn.kv_a_proj_with_mqa.weight"},
    {WeightRole::kKvANorm, Scope::kLayer, "self_attn.kv_a_layernorm.weight"},
    {WeightRole::kKvB, Scope::kLayer, "self_attn.kv_b_proj.weight"},
    {WeightRole::kO, Scope::kLayer, "self_attn.o_proj.weight"},
    {WeightRole::kRouter, Scope::kLayer, "mlp.gate.weight"},
    {WeightRole::kRouterBias, Scope::kLayer, "mlp.gate.e_score_correction_bias"},
    {WeightRole::kDenseGate, Scope::kLayer, "mlp.gate_proj.weight"},
    {WeightRole::kDenseUp, Scope::kLayer, "mlp.up_proj.weight"},
    {WeightRole::kDenseDown, Scope::kLayer, "mlp.down_proj.weight"},
    {WeightRole::kSharedGate, Scope::kLayer, "mlp.shared_experts.gate_proj.weight"},
    {WeightRole::kSharedUp, Scope::kLayer, "mlp.shared_experts.up_proj.weight"},
    {WeightRole::kSharedDown, Scope::kLayer, "mlp.shared_experts.down_proj.weight"},
    {WeightRole::kMtpEmbedding, Scope::kLayer, "embed_tokens.weight"},
    {WeightRole::kMtpEmbedNorm, Scope::kLayer, "enorm.weight"},
    {WeightRole::kMtpHiddenNorm, Scope::kLayer, "hnorm.weight"},
    {WeightRole::kMtpProjection, Scope::kLayer, "eh_proj.weight"},
    {WeightRole::kMtpFinalNorm, Scope::kLayer, "shared_head.norm.weight"},
    {WeightRole::kMtpHead, Scope::kLayer, "shared_head.head.weight"},
};

// No ending is the end of another, so one alone can match.
struct EndingRow {
  std::string_view ending;
  ParsedName::Kind kind;
};
constexpr EndingRow kEndings[] = {
    {"_scale_inv", ParsedName::Kind::kBlockScale}, {"_scale", ParsedName::Kind::kScale},
    {"_packed", ParsedName::Kind::kPacked},        {"_shape", ParsedName::Kind::kShape},
    {"_zero_point", ParsedName::Kind::kZeroPoint}, {"_g_idx", ParsedName::Kind::kGroupIndex},
};

constexpr std::string_view kLayerPrefix = "model.layers.";
constexpr std::string_view kExpertPrefix = "mlp.experts.";

const NameRow* FindRow(Scope scope, std::string_view name) {
  for (const NameRow& row : kNames) {
    if (row.scope == scope && row.name == name) return &row;
  }
  return nullptr;
}

// Takes "PREFIX<number>." off the front of `name`. One spelling a number: no sign, no leading zero.
std::optional<int32_t> TakeNumber(std::string_view& name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  const std::string_view rest = name.substr(prefix.size());
  const char* end = rest.data() + rest.size();
  int32_t number = 0;
  const auto [stop, error] = std::from_chars(rest.data(), end, number);
  const bool leading_zero = rest.starts_with('0') && stop != rest.data() + 1;
  if (error != std::errc() || stop == end || *stop != '.' || number < 0 || leading_zero) return std::nullopt;
  name = rest.substr(static_cast<size_t>(stop - rest.data()) + 1);
  return number;
}

std::optional<WeightId> ParseWeight(std::string_view name, std::optional<int32_t> layer) {
  if (!layer) {
    const NameRow* row = FindRow(Scope::kModel, name);
    if (row == nullptr) return std::nullopt;
    return WeightId{row->role, {}, {}};
  }
  std::string_view inner = name;
  if (const std::optional<int32_t> expert = TakeNumber(inner, kExpertPrefix)) {
    const NameRow* row = FindRow(Scope::kExpert, inner);
    if (row == nullptr) return std::nullopt;
    return WeightId{row->role, LayerId{*layer}, ExpertId{*expert}};
  }
  const NameRow* row = FindRow(Scope::kLayer, name);
  if (row == nullptr) return std::nullopt;
  return WeightId{row->role, LayerId{*layer}, {}};
}

}  // namespace

std::string HfName(const WeightId& id) {
  for (const NameRow& row : kNames) {
    if (row.role != id.role) continue;
    if (row.scope == Scope::kModel) return std::string(row.name);
    if (row.scope == Scope::kLayer) return fmt::format("{}{}.{}", kLayerPrefix, id.layer.value, row.name);
    return fmt::format("{}{}.{}{}.{}", kLayerPrefix, id.layer.value, kExpertPrefix, id.expert.value,
                       row.name);
  }
  MORAINE_CHECK(false);
}

std::string_view Ending(ParsedName::Kind part) {
  for (const EndingRow& row : kEndings) {
    if (row.kind == part) return row.ending;
  }
  return "";
}

std::string PartName(const WeightId& id, ParsedName::Kind part) {
  return HfName(id) + std::string(Ending(part));
}

ParsedName ParseHfName(std::string_view name) {
  using Kind = ParsedName::Kind;
  constexpr std::string_view kBias = ".bias";
  ParsedName parsed;
  parsed.layer = TakeNumber(name, kLayerPrefix);
  const auto accept = [&](std::optional<WeightId> id, Kind kind) {
    if (!id) return false;
    parsed.id = *id;
    parsed.kind = kind;
    return true;
  };
  if (accept(ParseWeight(name, parsed.layer), Kind::kWeight)) return parsed;
  for (const EndingRow& row : kEndings) {
    if (!name.ends_with(row.ending)) continue;
    accept(ParseWeight(name.substr(0, name.size() - row.ending.size()), parsed.layer), row.kind);
    return parsed;
  }
  if (name.ends_with(kBias)) {
    const std::string weight = std::string(name.substr(0, name.size() - kBias.size())) + ".weight";
    accept(ParseWeight(weight, parsed.layer), Kind::kBias);
  }
  return parsed;
}

}  // namespace moraine
