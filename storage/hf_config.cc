#include "storage/hf_config.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/core/file.h"
#include "runtime/core/json_guard.h"
#include "runtime/core/printable.h"
#include "storage/json_fields.h"
#include "storage/quantisation_config.h"

namespace moraine {
namespace {

using nlohmann::json;

constexpr char kDocument[] = "config.json";
constexpr int64_t kMaxBytes = int64_t{4} << 20;
constexpr JsonLimits kLimits = {.max_bytes = size_t{kMaxBytes}, .max_values = 100'000};

// What the two published configurations take for granted when a key is absent.
struct Family {
  const char* architecture;
  ScoreFunction score;
  const char* score_name;
  const char* methods;  // for messages
  int32_t dense_layers;
  bool normalise;
  float scale;
};
constexpr Family kFamilies[] = {
    {"DeepseekV3ForCausalLM", ScoreFunction::kSigmoid, "sigmoid", "\"noaux_tc\"", 3, true, 2.5f},
    {"DeepseekV2ForCausalLM", ScoreFunction::kSoftmax, "softmax", "\"greedy\" or \"group_limited_greedy\"", 0,
     false, 1.f},
};

bool IsV3(const Family& family) { return family.score == ScoreFunction::kSigmoid; }

const Family* ReadFamily(JsonFields& fields) {
  const std::vector<std::string> names = fields.Strings("architectures");
  for (const Family& family : kFamilies) {
    if (!names.empty() && names.front() == family.architecture) return &family;
  }
  fields.Refuse("architectures",
                fmt::format("[\"{}\"] or [\"{}\"]", kFamilies[0].architecture, kFamilies[1].architecture));
  return nullptr;
}

// Settings that would change the arithmetic in ways this runtime does not have.
void RefuseUnsupported(JsonFields& f) {
  if (f.String("hidden_act", "silu") != "silu") f.Refuse("hidden_act", "\"silu\"");
  if (f.Bool("attention_bias", false)) f.Refuse("attention_bias", "false");
  if (f.Bool("mlp_bias", false)) f.Refuse("mlp_bias", "false");
  if (!f.Bool("rope_interleave", true)) f.Refuse("rope_interleave", "true");
  if (f.Integer("moe_layer_freq", 1) != 1)
    f.Refuse("moe_layer_freq", "1: every layer after the first dense ones has experts");
}

void ReadSizes(JsonFields& f, const Family& family, ModelShape& s) {
  s.vocab = f.Integer("vocab_size");
  s.hidden = f.Integer("hidden_size");
  s.layers = f.Int32("num_hidden_layers");
  // More dense layers than layers is how a model without experts is written.
  s.dense_layers = std::min(f.Int32("first_k_dense_replace", family.dense_layers), s.layers);
  // transformers 5 knows both spellings.
  s.mtp_layers = f.Int32("num_nextn_predict_layers", f.Int32("num_mtp_layers", 0));
  s.heads = f.Int32("num_attention_heads");
  // null is how a model without query compression is written, so a missing key is not taken for it.
  s.q_lora = f.IsNull("q_lora_rank") ? 0 : f.Integer("q_lora_rank");
  if (f.Given("q_lora_rank") && s.q_lora == 0)
    f.Refuse("q_lora_rank", "a positive integer, or null for queries without compression");
  s.kv_lora = f.Integer("kv_lora_rank");
  s.qk_nope = f.Integer("qk_nope_head_dim");
  s.qk_rope = f.Integer("qk_rope_head_dim");
  s.v_head = f.Integer("v_head_dim");
  s.dense_inter = f.Integer("intermediate_size");
  s.expert_inter = f.Integer("moe_intermediate_size");
  s.experts = f.Int32("n_routed_experts");
  s.top_k = f.Int32("num_experts_per_tok");
  if (f.IsNull("n_shared_experts")) {
    s.shared_experts = 0;
  } else {
    s.shared_experts = IsV3(family) ? f.Int32("n_shared_experts", 1) : f.Int32("n_shared_experts");
  }
  s.context = f.Integer("max_position_embeddings");
  s.norm_eps = f.Float("rms_norm_eps", 1e-6f);
  s.tied_embeddings = f.Bool("tie_word_embeddings", false);
}

void ReadRouter(JsonFields& f, const Family& family, RouterShape& router) {
  router.score = family.score;
  if (f.String("scoring_func", family.score_name) != family.score_name)
    f.Refuse("scoring_func", fmt::format("\"{}\" for {}", family.score_name, family.architecture));
  const std::string method = f.String("topk_method", IsV3(family) ? "noaux_tc" : "greedy");
  const bool v3_method = method == "noaux_tc";
  if (v3_method != IsV3(family) || (!v3_method && method != "greedy" && method != "group_limited_greedy"))
    f.Refuse("topk_method", fmt::format("{} for {}", family.methods, family.architecture));
  router.correction_bias = v3_method;
  router.scale = f.Float("routed_scaling_factor", family.scale);
  router.normalise = f.Bool("norm_topk_prob", family.normalise);
  // DeepSeek's own V2 code normalises and then leaves the scale out, transformers never normalises.
  if (!IsV3(family) && router.normalise)
    f.Refuse("norm_topk_prob", "false: published implementations of V2 disagree on what true means");

  router.group_score = GroupScore::kNone;
  if (method == "greedy") return;
  // null means one group; V3's code has defaults for absent keys, V2's has not.
  if (IsV3(family)) {
    router.groups = f.IsNull("n_group") ? 1 : f.Int32("n_group", 8);
    router.kept_groups = f.IsNull("topk_group") ? 1 : f.Int32("topk_group", 4);
  } else {
    router.groups = f.Int32("n_group");
    router.kept_groups = f.Int32("topk_group");
  }
  if (router.groups == 1 && router.kept_groups == 1) return;
  router.group_score = v3_method ? GroupScore::kTwoBest : GroupScore::kMaximum;
}

// `f` reads the object of `name`, rope_scaling or rope_parameters.
Status ReadYarn(const json& object, const char* name, int64_t context, RopeShape& rope) {
  JsonFields f(object, kDocument, fmt::format("{}.", name));
  const char* type_key = f.Given("rope_type") ? "rope_type" : "type";
  const std::string type = f.String(type_key, "default");
  rope.theta = f.Float("rope_theta", rope.theta);
  if (f.Float("partial_rotary_factor", 1.f) != 1.f) f.Refuse("partial_rotary_factor", "1");
  if (type == "yarn") {
    if (f.Given("attention_factor")) f.Refuse("attention_factor", "null: it follows from factor and mscale");
    if (!f.Bool("truncate", true)) f.Refuse("truncate", "true");
    if (!f.Given("factor")) f.Refuse("factor", "a number above 0");
    // Without both mscales the published code scales by factor alone, which 0 stands for.
    rope.yarn = YarnShape{.factor = f.Float("factor", 1.f),
                          .original_context = f.Integer("original_max_position_embeddings", context),
                          .beta_fast = f.Float("beta_fast", 32.f),
                          .beta_slow = f.Float("beta_slow", 1.f),
                          .mscale = f.Float("mscale", 0.f),
                          .mscale_all_dim = f.Float("mscale_all_dim", 0.f)};
  } else if (type != "default") {
    f.Refuse(type_key, "\"yarn\" or \"default\"");
  }
  return f.status();
}

Status ReadRope(JsonFields& f, ModelShape& s) {
  s.rope.theta = f.Float("rope_theta", 10000.f);
  const json* scaling = f.Object("rope_scaling");
  const json* parameters = f.Object("rope_parameters");
  if (scaling != nullptr && parameters != nullptr)
    f.Refuse("rope_scaling", "no rope_scaling beside rope_parameters: which of them holds?");
  MORAINE_RETURN_IF_ERROR(f.status());
  if (scaling != nullptr) return ReadYarn(*scaling, "rope_scaling", s.context, s.rope);
  if (parameters != nullptr) return ReadYarn(*parameters, "rope_parameters", s.context, s.rope);
  return {};
}

Result<ModelShape> ReadShape(std::string_view text) {
  MORAINE_ASSIGN_OR_RETURN(const json document, ParseJson(text, kDocument, kLimits));
  JsonFields fields(document, kDocument);
  ModelShape shape;
  const Family* family = ReadFamily(fields);
  MORAINE_RETURN_IF_ERROR(fields.status());
  shape.architecture = family->architecture;
  RefuseUnsupported(fields);
  ReadSizes(fields, *family, shape);
  ReadRouter(fields, *family, shape.router);
  MORAINE_RETURN_IF_ERROR(ReadRope(fields, shape));
  if (const json* object = fields.Object("quantization_config"))
    MORAINE_RETURN_IF_ERROR(ReadQuantisation(*object, shape));
  if (const json* synth = fields.Object("moraine_synth")) {
    JsonFields inner(*synth, kDocument, "moraine_synth.");
    shape.sparse = inner.Bool("sparse", false);
    MORAINE_RETURN_IF_ERROR(inner.status());
  }
  shape.bos_token = fields.Int32("bos_token_id", -1);
  shape.eos_tokens = fields.Tokens("eos_token_id");
  MORAINE_RETURN_IF_ERROR(fields.status());
  MORAINE_RETURN_IF_ERROR(CheckShape(shape));
  return shape;
}

}  // namespace

Result<ModelShape> ParseHfConfig(std::string_view text, const std::string& folder) {
  Result<ModelShape> shape = ReadShape(text);
  if (!shape.has_value()) return Fail(shape.error(), folder);
  return shape;
}

Result<GenerationDefaults> ParseGenerationConfig(std::string_view text, const std::string& folder) {
  const auto read = [&]() -> Result<GenerationDefaults> {
    constexpr char kName[] = "generation_config.json";
    MORAINE_ASSIGN_OR_RETURN(const json document, ParseJson(text, kName, kLimits));
    JsonFields f(document, kName);
    GenerationDefaults defaults;
    defaults.temperature = f.Float("temperature", 1.f);
    if (defaults.temperature < 0.f) f.Refuse("temperature", "0 or above");
    defaults.top_p = f.Float("top_p", 1.f);
    if (!(defaults.top_p > 0.f && defaults.top_p <= 1.f)) f.Refuse("top_p", "above 0, at most 1");
    // 0 and -1 are both written for "no cut".
    const int32_t top_k = f.Int32("top_k", 0);
    if (top_k < -1) f.Refuse("top_k", "0 or above");
    if (top_k > 0) defaults.top_k = top_k;
    defaults.do_sample = f.Bool("do_sample", false);
    defaults.eos_tokens = f.Tokens("eos_token_id");
    if (f.Given("bos_token_id")) defaults.bos_token = f.Int32("bos_token_id");
    MORAINE_RETURN_IF_ERROR(f.status());
    return defaults;
  };
  Result<GenerationDefaults> defaults = read();
  if (!defaults.has_value()) return Fail(defaults.error(), folder);
  return defaults;
}

}  // namespace moraine
