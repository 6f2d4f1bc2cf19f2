#include "tools/inspect_report.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "runtime/core/printable.h"

namespace moraine::tools {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kSchema = 1;
constexpr int64_t kKvValueBytes = 2;  // the cache is BF16

// With a comma at every thousand.
std::string Count(int64_t n) {
  return n < 1000 ? fmt::format("{}", n) : fmt::format("{},{:03}", Count(n / 1000), n % 1000);
}

// Decimal units, as disks are sold and as published parameter counts are given.
std::string Bytes(int64_t n) {
  const auto value = static_cast<double>(n);
  if (n >= 1'000'000'000) return fmt::format("{:.1f} GB", value / 1e9);
  if (n >= 1'000'000) return fmt::format("{:.2f} MB", value / 1e6);
  if (n >= 10'000) return fmt::format("{:.1f} kB", value / 1e3);
  return fmt::format("{} B", n);
}

std::string Weights(int64_t n) {
  const auto value = static_cast<double>(n);
  if (n >= 1'000'000'000) return fmt::format("{:.1f} B", value / 1e9);
  if (n >= 1'000'000) return fmt::format("{:.2f} M", value / 1e6);
  if (n >= 10'000) return fmt::format("{:.1f} k", value / 1e3);
  return fmt::format("{}", n);
}

std::string Join(const std::vector<int32_t>& list) {
  std::string text;
  for (const int32_t item : list) text += fmt::format("{}{}", text.empty() ? "" : ", ", item);
  return text.empty() ? "none" : text;
}

const char* ScoreName(ScoreFunction score) {
  return score == ScoreFunction::kSigmoid ? "sigmoid" : "softmax";
}

const char* GroupName(GroupScore score) {
  switch (score) {
    case GroupScore::kNone:
      return "none";
    case GroupScore::kMaximum:
      return "maximum";
    case GroupScore::kTwoBest:
      return "two_best";
  }
  return "";
}

std::string Dimensions(const StoredTensor& tensor) {
  return tensor.columns == 0 ? fmt::format("[{}]", tensor.rows)
                             : fmt::format("[{}, {}]", tensor.rows, tensor.columns);
}

std::string ShapeLines(const ModelShape& s) {
  std::string text =
      fmt::format("shape      {} layers ({} dense, {} MoE), hidden {}, vocabulary {}, context {}\n", s.layers,
                  s.dense_layers, s.moe_layers(), s.hidden, s.vocab, s.context);
  text += fmt::format("attention  {} heads, {}, kv_lora {}, qk {} + {} rope, v {}\n", s.heads,
                      s.q_lora > 0 ? fmt::format("q_lora {}", s.q_lora) : std::string("no q_lora"), s.kv_lora,
                      s.qk_nope, s.qk_rope, s.v_head);
  text += fmt::format("mlp        dense {}; {} experts of {}, {} a token, {} shared\n", s.dense_inter,
                      s.experts, s.expert_inter, s.top_k, s.shared_experts);
  const RouterShape& r = s.router;
  text +=
      fmt::format("router     {}{}, {}, weights {}x {:g}\n", ScoreName(r.score),
                  r.correction_bias ? " with correction bias" : "",
                  r.group_score == GroupScore::kNone
                      ? std::string("no groups")
                      : fmt::format("best {} of {} groups by {}", r.kept_groups, r.groups,
                                    r.group_score == GroupScore::kTwoBest ? "their two best" : "their best"),
                  r.normalise ? "normalised " : "", r.scale);
  text += fmt::format("rope       theta {:g}", s.rope.theta);
  if (s.rope.yarn) {
    const YarnShape& y = *s.rope.yarn;
    text += fmt::format(", YaRN x {:g} from {} (beta {:g}/{:g}, mscale {:g}/{:g})", y.factor,
                        y.original_context, y.beta_fast, y.beta_slow, y.mscale, y.mscale_all_dim);
  }
  return text + fmt::format("\nnorm       eps {:g}; {} embedding and head\n", s.norm_eps,
                            s.tied_embeddings ? "one" : "separate");
}

std::string TokenLine(const Checkpoint& checkpoint) {
  const GenerationDefaults& g = checkpoint.generation();
  const int32_t bos = g.bos_token.value_or(checkpoint.shape().bos_token);
  std::string text =
      fmt::format("tokens     bos {}, eos {}; ", bos < 0 ? std::string("none") : fmt::format("{}", bos),
                  Join(checkpoint.shape().eos_tokens));
  if (!g.do_sample) return text + "greedy unless asked otherwise\n";
  return text + fmt::format("sampling at temperature {:g}, top_p {:g}{}\n", g.temperature, g.top_p,
                            g.top_k ? fmt::format(", top_k {}", *g.top_k) : "");
}

std::string ClassTable(const CheckpointReport& report) {
  std::string text = fmt::format("\n{:<10} {:>8} {:>10} {:>11} {:>11}  {}\n", "class", "tensors", "weights",
                                 "bytes", "scales", "formats");
  ClassSum total;
  for (int i = 0; i < kTensorClasses; ++i) {
    const ClassSum& sum = report.classes.at(static_cast<size_t>(i));
    if (sum.tensors == 0) continue;
    std::string formats;
    for (const auto& [format, bytes] : sum.bytes_by_format)
      formats += fmt::format("{}{}", formats.empty() ? "" : ", ", format);
    text += fmt::format("{:<10} {:>8} {:>10} {:>11} {:>11}  {}\n", Name(static_cast<TensorClass>(i)),
                        Count(sum.tensors), Weights(sum.weights), Bytes(sum.bytes),
                        sum.scale_bytes > 0 ? Bytes(sum.scale_bytes) : "-", formats);
    total.tensors += sum.tensors;
    total.weights += sum.weights;
    total.bytes += sum.bytes;
    total.scale_bytes += sum.scale_bytes;
  }
  return text + fmt::format("{:<10} {:>8} {:>10} {:>11} {:>11}\n", "total", Count(total.tensors),
                            Weights(total.weights), Bytes(total.bytes),
                            total.scale_bytes > 0 ? Bytes(total.scale_bytes) : "-");
}

std::string FigureLines(const Checkpoint& checkpoint) {
  const ModelFigures f = FiguresOf(checkpoint);
  const CheckpointReport& report = checkpoint.report();
  std::string text;
  if (f.routed_experts > 0) {
    text += fmt::format("\nexpert     {} weights, {} + {} of scales; {} of them\n", Weights(f.expert_weights),
                        Bytes(f.expert_bytes), Bytes(f.expert_scale_bytes), Count(f.routed_experts));
    text += fmt::format("a token    runs {} experts: reads {} + {} of scales\n", Count(f.experts_per_token),
                        Bytes(f.routed_bytes_per_token), Bytes(f.routed_scale_bytes_per_token));
  }
  text += fmt::format("KV cache   {} B a token; {} for the whole context\n", Count(f.kv_bytes_per_token),
                      Bytes(f.kv_bytes_per_token * checkpoint.shape().context));
  text += fmt::format("MTP        {} layer(s) stored ({} tensors, {}), {} declared; {}\n", report.mtp_present,
                      report.mtp_stored.tensors, Bytes(report.mtp_stored.bytes), report.mtp_declared,
                      report.mtp_loaded ? "loaded" : "not loaded");
  text += fmt::format("extra      {} tensors the model does not use", report.extras.size());
  constexpr size_t kShown = 5;
  for (size_t i = 0; i < std::min(kShown, report.extras.size()); ++i)
    text += fmt::format("{}{}", i == 0 ? ": " : ", ", Printable(report.extras[i].name, 100));
  return text + (report.extras.size() > kShown ? ", ...\n" : "\n");
}

// The shortest decimal that reads back as `value`: 0.6, not 0.6000000238418579.
double Decimal(float value) { return std::stod(fmt::format("{}", value)); }

Json IntegerJson(const std::vector<IntegerScheme>& schemes) {
  Json list = Json::array();
  for (const IntegerScheme& scheme : schemes) {
    list.push_back({{"bits", scheme.bits},
                    {"group", scheme.group == 0 ? Json() : Json(scheme.group)},
                    {"symmetric", scheme.symmetric}});
  }
  return list;
}

Json ShapeJson(const ModelShape& s) {
  return {{"layers", s.layers},
          {"dense_layers", s.dense_layers},
          {"hidden", s.hidden},
          {"vocab", s.vocab},
          {"context", s.context},
          {"heads", s.heads},
          {"q_lora", s.q_lora},
          {"kv_lora", s.kv_lora},
          {"qk_nope", s.qk_nope},
          {"qk_rope", s.qk_rope},
          {"v_head", s.v_head},
          {"dense_inter", s.dense_inter},
          {"expert_inter", s.expert_inter},
          {"experts", s.experts},
          {"top_k", s.top_k},
          {"shared_experts", s.shared_experts},
          {"norm_eps", Decimal(s.norm_eps)},
          {"tied_embeddings", s.tied_embeddings},
          {"fp8_block", s.fp8 ? Json::array({s.fp8->rows, s.fp8->columns}) : Json()},
          {"integer", IntegerJson(s.integer)},
          {"bos_token", s.bos_token},
          {"eos_tokens", s.eos_tokens}};
}

Json RopeJson(const RopeShape& rope) {
  Json json = {{"theta", Decimal(rope.theta)}, {"yarn", nullptr}};
  if (!rope.yarn) return json;
  const YarnShape& y = *rope.yarn;
  json["yarn"] = {{"factor", Decimal(y.factor)},       {"original_context", y.original_context},
                  {"beta_fast", Decimal(y.beta_fast)}, {"beta_slow", Decimal(y.beta_slow)},
                  {"mscale", Decimal(y.mscale)},       {"mscale_all_dim", Decimal(y.mscale_all_dim)}};
  return json;
}

Json ClassesJson(const CheckpointReport& report) {
  Json classes = Json::object();
  for (int i = 0; i < kTensorClasses; ++i) {
    const ClassSum& sum = report.classes.at(static_cast<size_t>(i));
    Json formats = Json::object();
    for (const auto& [format, bytes] : sum.bytes_by_format) formats[format] = bytes;
    classes[std::string(Name(static_cast<TensorClass>(i)))] = {{"tensors", sum.tensors},
                                                               {"weights", sum.weights},
                                                               {"bytes", sum.bytes},
                                                               {"scale_bytes", sum.scale_bytes},
                                                               {"formats", std::move(formats)}};
  }
  return classes;
}

Json TensorsJson(const Checkpoint& checkpoint) {
  Json list = Json::array();
  for (const StoredTensor& t : checkpoint.tensors()) {
    Json shape = Json::array({t.rows});
    if (t.columns != 0) shape.push_back(t.columns);
    list.push_back({{"name", checkpoint.NameOf(t.id)},
                    {"class", Name(t.tensor_class)},
                    {"format", FormatName(t)},
                    {"shape", std::move(shape)},
                    {"shard", t.range.shard},
                    {"offset", t.range.offset},
                    {"bytes", t.range.bytes},
                    {"scale_bytes", t.scale_bytes()}});
  }
  return list;
}

}  // namespace

ModelFigures FiguresOf(const Checkpoint& checkpoint) {
  const ModelShape& s = checkpoint.shape();
  ModelFigures f;
  for (int i = 0; i < kTensorClasses; ++i) {
    if (static_cast<TensorClass>(i) == TensorClass::kMtp) continue;
    const ClassSum& sum = checkpoint.report().classes.at(static_cast<size_t>(i));
    f.parameters += sum.weights;
    f.bytes += sum.bytes + sum.scale_bytes;
  }
  f.kv_bytes_per_token = s.layers * s.kv_values() * kKvValueBytes;
  if (s.moe_layers() == 0) return f;
  f.routed_experts = s.moe_layers() * s.experts;
  f.experts_per_token = s.moe_layers() * s.top_k;
  f.expert_weights = 3 * s.hidden * s.expert_inter;
  // Formats may differ from expert to expert; a token reads K of a layer's E, of average size. Divided first
  // where it divides: experts of one size give an exact figure, and none overflows.
  const auto share = [&](int64_t layer_bytes) {
    return layer_bytes / s.experts * s.top_k + layer_bytes % s.experts * s.top_k / s.experts;
  };
  for (int32_t layer = s.dense_layers; layer < s.layers; ++layer) {
    int64_t layer_bytes = 0;
    int64_t layer_scale_bytes = 0;
    for (int32_t expert = 0; expert < s.experts; ++expert) {
      int64_t bytes = 0;
      int64_t scale_bytes = 0;
      for (const WeightRole role :
           {WeightRole::kExpertGate, WeightRole::kExpertUp, WeightRole::kExpertDown}) {
        const StoredTensor* tensor = checkpoint.Find({role, LayerId{layer}, ExpertId{expert}});
        bytes += tensor->range.bytes;
        scale_bytes += tensor->scale_bytes();
      }
      f.expert_bytes = std::max(f.expert_bytes, bytes);
      f.expert_scale_bytes = std::max(f.expert_scale_bytes, scale_bytes);
      layer_bytes += bytes;
      layer_scale_bytes += scale_bytes;
    }
    f.routed_bytes_per_token += share(layer_bytes);
    f.routed_scale_bytes_per_token += share(layer_scale_bytes);
  }
  return f;
}

std::string ReportText(const Checkpoint& checkpoint, bool list_tensors) {
  const ModelFigures f = FiguresOf(checkpoint);
  std::string text =
      fmt::format("{}\n{}, {} parameters, {} in {} shard{}{}\n\n", Printable(checkpoint.folder(), 4096),
                  checkpoint.shape().architecture, Weights(f.parameters), Bytes(f.bytes),
                  checkpoint.shards().size(), checkpoint.shards().size() == 1 ? "" : "s",
                  checkpoint.shape().sparse ? "; sparse: holes in place of weights" : "");
  text += ShapeLines(checkpoint.shape()) + TokenLine(checkpoint) + ClassTable(checkpoint.report()) +
          FigureLines(checkpoint);
  if (!list_tensors) return text;
  text += '\n';
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    text += fmt::format("{} {} {} shard {} offset {} bytes {}\n", checkpoint.NameOf(tensor.id),
                        FormatName(tensor), Dimensions(tensor), tensor.range.shard, tensor.range.offset,
                        tensor.range.bytes);
  }
  return text;
}

Json ReportJson(const Checkpoint& checkpoint, bool list_tensors) {
  const ModelFigures f = FiguresOf(checkpoint);
  const ModelShape& s = checkpoint.shape();
  const CheckpointReport& report = checkpoint.report();
  const GenerationDefaults& g = checkpoint.generation();
  Json json = {{"schema", kSchema}};
  json["model"] = {{"folder", Printable(checkpoint.folder(), 4096)},
                   {"architecture", s.architecture},
                   {"parameters", f.parameters},
                   {"bytes", f.bytes},
                   {"shards", checkpoint.shards().size()},
                   {"sparse", s.sparse},
                   {"stored_tensors", report.stored_tensors},
                   {"stored_bytes", report.stored_bytes}};
  json["shape"] = ShapeJson(s);
  json["router"] = {{"score", ScoreName(s.router.score)},
                    {"correction_bias", s.router.correction_bias},
                    {"group_score", GroupName(s.router.group_score)},
                    {"groups", s.router.groups},
                    {"kept_groups", s.router.kept_groups},
                    {"normalise", s.router.normalise},
                    {"scale", Decimal(s.router.scale)}};
  json["rope"] = RopeJson(s.rope);
  json["generation"] = {{"do_sample", g.do_sample},
                        {"temperature", Decimal(g.temperature)},
                        {"top_p", Decimal(g.top_p)},
                        {"top_k", g.top_k ? Json(*g.top_k) : Json()}};
  json["classes"] = ClassesJson(report);
  json["routed_experts"] = f.routed_experts;
  json["experts_per_token"] = f.experts_per_token;
  json["expert_weights"] = f.expert_weights;
  json["expert_bytes"] = f.expert_bytes;
  json["expert_scale_bytes"] = f.expert_scale_bytes;
  json["routed_bytes_per_token"] = f.routed_bytes_per_token;
  json["routed_scale_bytes_per_token"] = f.routed_scale_bytes_per_token;
  json["kv_bytes_per_token"] = f.kv_bytes_per_token;
  json["mtp"] = {{"declared", report.mtp_declared},
                 {"present", report.mtp_present},
                 {"loaded", report.mtp_loaded},
                 {"tensors", report.mtp_stored.tensors},
                 {"bytes", report.mtp_stored.bytes}};
  Json extras = Json::array();
  for (const ExtraTensor& extra : report.extras) extras.push_back(extra.name);
  json["extra"] = std::move(extras);
  if (list_tensors) json["tensors"] = TensorsJson(checkpoint);
  return json;
}

}  // namespace moraine::tools
