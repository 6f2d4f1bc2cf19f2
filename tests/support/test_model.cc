#include "tests/support/test_model.h"

#include <fmt/core.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <utility>

#include "runtime/core/quant_format.h"
#include "tests/support/temp_folder.h"

namespace moraine::test {
namespace {

constexpr int64_t kBlock = 16;
constexpr int64_t kVocab = 50;
constexpr int64_t kHidden = 40;
constexpr int64_t kHeads = 2;
constexpr int64_t kQLora = 24;
constexpr int64_t kKvLora = 20;
constexpr int64_t kNope = 12;
constexpr int64_t kRope = 8;
constexpr int64_t kVHead = 10;
constexpr int64_t kDense = 56;
constexpr int64_t kInter = 18;
constexpr int64_t kExperts = 8;
constexpr int kLayers = 3;

bool IsPacked(std::string_view dtype) { return dtype == "INT4" || dtype == "INT8"; }
bool IsIntegers(std::string_view dtype) { return IsPacked(dtype) || dtype == "I8"; }

bool IsV3(TestFamily family) { return family == TestFamily::kV3 || family == TestFamily::kMoonlight; }
bool HasQLora(TestFamily family) { return family == TestFamily::kV3 || family == TestFamily::kV2; }

// The writer spells all names out, on purpose: it is the second opinion on the loader's table.
class Writer {
 public:
  explicit Writer(const TestModelOptions& options) : options_(options), random_(options.seed) {}

  std::vector<TestTensor> All() {
    Matrix("model.embed_tokens.weight", kVocab, kHidden, Unquantised());
    for (int layer = 0; layer < kLayers; ++layer) Layer(layer);
    for (int layer = kLayers; layer < kLayers + options_.mtp_layers; ++layer) MtpLayer(layer);
    Vector("model.norm.weight", kHidden);
    Matrix("lm_head.weight", kVocab, kHidden, Unquantised());
    return std::move(tensors_);
  }

 private:
  std::string_view Unquantised() const {
    return options_.dtype == "F8_E4M3" || IsIntegers(options_.dtype) ? "BF16" : options_.dtype;
  }

  void Add(const std::string& name, std::string_view dtype, std::vector<int64_t> shape) {
    TestTensor tensor = {name, std::string(dtype), std::move(shape), {}};
    int64_t count = 1;
    for (const int64_t size : tensor.shape) count *= size;
    std::uniform_real_distribution<float> values(-0.5f, 0.5f);
    for (int64_t i = 0; i < count; ++i) {
      const float value = values(random_);
      if (dtype == "F32") {
        tensor.bytes.append(reinterpret_cast<const char*>(&value), 4);
      } else if (dtype == "I32") {
        // Padding behind the last value included: it means nothing and must not be read.
        const auto word = static_cast<uint32_t>(random_());
        tensor.bytes.append(reinterpret_cast<const char*>(&word), 4);
      } else if (dtype == "I8") {
        tensor.bytes += static_cast<char>(random_());
      } else if (dtype == "F8_E4M3") {
        tensor.bytes += static_cast<char>(F32ToFp8E4M3(value));
      } else {
        // Any finite pattern will do for F16; BF16 gets the rounded value.
        const uint16_t bits = dtype == "F16" ? static_cast<uint16_t>(random_() & 0xBBFF) : F32ToBf16(value);
        tensor.bytes.append(reinterpret_cast<const char*>(&bits), 2);
      }
    }
    tensors_.push_back(std::move(tensor));
  }

  void Vector(const std::string& name, int64_t size) { Add(name, Unquantised(), {size}); }

  void Integers(const std::string& name, int64_t rows, int64_t columns) {
    const int64_t bits = options_.dtype == "INT4" ? 4 : 8;
    const auto words = [bits](int64_t values) { return (values * bits + 31) / 32; };
    const int64_t groups = options_.group == 0 ? 1 : columns / options_.group;
    if (options_.dtype == "I8") {
      Add(name, "I8", {rows, columns});
    } else {
      Add(name + "_packed", "I32", {rows, words(columns)});
      tensors_.push_back({name + "_shape", "I64", {2}, {}});
      for (const int64_t size : {rows, columns})
        tensors_.back().bytes.append(reinterpret_cast<const char*>(&size), 8);
    }
    Add(name + "_scale", "BF16", {rows, groups});
    if (!options_.zeros) return;
    if (options_.dtype == "I8") {
      Add(name + "_zero_point", "I8", {rows, groups});
    } else {
      Add(name + "_zero_point", "I32", {words(rows), groups});
    }
  }

  void Matrix(const std::string& name, int64_t rows, int64_t columns, std::string_view dtype) {
    if (IsIntegers(dtype)) return Integers(name, rows, columns);
    Add(name, dtype, {rows, columns});
    if (dtype == "F8_E4M3")
      Add(name + "_scale_inv", "F32", {(rows + kBlock - 1) / kBlock, (columns + kBlock - 1) / kBlock});
  }

  void Mlp(const std::string& prefix, int64_t inter) {
    Matrix(prefix + "gate_proj.weight", inter, kHidden, options_.dtype);
    Matrix(prefix + "up_proj.weight", inter, kHidden, options_.dtype);
    Matrix(prefix + "down_proj.weight", kHidden, inter, options_.dtype);
  }

  void Layer(int layer) {
    const std::string at = fmt::format("model.layers.{}.", layer);
    Vector(at + "input_layernorm.weight", kHidden);
    Vector(at + "post_attention_layernorm.weight", kHidden);
    const int64_t q_rows = kHeads * (kNope + kRope);
    if (HasQLora(options_.family)) {
      Matrix(at + "self_attn.q_a_proj.weight", kQLora, kHidden, options_.dtype);
      Vector(at + "self_attn.q_a_layernorm.weight", kQLora);
      Matrix(at + "self_attn.q_b_proj.weight", q_rows, kQLora, options_.dtype);
    } else {
      Matrix(at + "self_attn.q_proj.weight", q_rows, kHidden, options_.dtype);
    }
    Matrix(at + "self_attn.kv_a_proj_with_mqa.weight", kKvLora + kRope, kHidden, options_.dtype);
    Vector(at + "self_attn.kv_a_layernorm.weight", kKvLora);
    Matrix(at + "self_attn.kv_b_proj.weight", kHeads * (kNope + kVHead), kKvLora, options_.dtype);
    Matrix(at + "self_attn.o_proj.weight", kHidden, kHeads * kVHead, options_.dtype);
    if (layer == 0) return Mlp(at + "mlp.", kDense);
    Matrix(at + "mlp.gate.weight", kExperts, kHidden, Unquantised());
    if (IsV3(options_.family)) Add(at + "mlp.gate.e_score_correction_bias", "F32", {kExperts});
    Mlp(at + "mlp.shared_experts.", 2 * kInter);
    for (int64_t e = 0; e < kExperts; ++e) Mlp(fmt::format("{}mlp.experts.{}.", at, e), kInter);
  }

  void MtpLayer(int layer) {
    const std::string at = fmt::format("model.layers.{}.", layer);
    Layer(layer);
    Vector(at + "enorm.weight", kHidden);
    Vector(at + "hnorm.weight", kHidden);
    Matrix(at + "eh_proj.weight", kHidden, 2 * kHidden, Unquantised());
    Matrix(at + "embed_tokens.weight", kVocab, kHidden, Unquantised());
    Vector(at + "shared_head.norm.weight", kHidden);
    Matrix(at + "shared_head.head.weight", kVocab, kHidden, Unquantised());
  }

  TestModelOptions options_;
  std::mt19937 random_;
  std::vector<TestTensor> tensors_;
};

// A finite IEEE half: sign, 5 exponent bits with bias 15, 10 mantissa bits.
float HalfByDefinition(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return static_cast<float>((bits & 0x8000) != 0 ? -magnitude : magnitude);
}

nlohmann::ordered_json ConfigOf(const TestModelOptions& options) {
  const bool v3 = IsV3(options.family);
  nlohmann::ordered_json config = {
      {"architectures", {v3 ? "DeepseekV3ForCausalLM" : "DeepseekV2ForCausalLM"}},
      {"attention_bias", false},
      {"bos_token_id", 0},
      {"eos_token_id", 1},
      {"first_k_dense_replace", 1},
      {"hidden_act", "silu"},
      {"hidden_size", kHidden},
      {"intermediate_size", kDense},
      {"kv_lora_rank", kKvLora},
      {"max_position_embeddings", 128},
      {"moe_intermediate_size", kInter},
      {"moe_layer_freq", 1},
      {"n_routed_experts", kExperts},
      {"n_shared_experts", 2},
      {"norm_topk_prob", v3},
      {"num_attention_heads", kHeads},
      {"num_experts_per_tok", 2},
      {"num_hidden_layers", kLayers},
      {"num_key_value_heads", kHeads},
      {"q_lora_rank", nullptr},
      {"qk_nope_head_dim", kNope},
      {"qk_rope_head_dim", kRope},
      {"rms_norm_eps", 1e-6},
      {"rope_scaling", nullptr},
      {"rope_theta", 10000},
      {"routed_scaling_factor", v3 ? 2.5 : 1.0},
      {"scoring_func", v3 ? "sigmoid" : "softmax"},
      {"tie_word_embeddings", false},
      {"torch_dtype", "bfloat16"},
      {"v_head_dim", kVHead},
      {"vocab_size", kVocab},
  };
  const bool groups = options.family == TestFamily::kV3 || options.family == TestFamily::kV2;
  config["topk_method"] = v3 ? "noaux_tc" : groups ? "group_limited_greedy" : "greedy";
  config["n_group"] = groups ? 4 : 1;
  config["topk_group"] = groups ? 2 : 1;
  if (HasQLora(options.family)) config["q_lora_rank"] = kQLora;
  if (v3) config["num_nextn_predict_layers"] = options.mtp_layers;
  if (options.family == TestFamily::kV3) {
    config["rope_scaling"] = {{"beta_fast", 32},       {"beta_slow", 1},
                              {"factor", 4.0},         {"mscale", 1.0},
                              {"mscale_all_dim", 1.0}, {"original_max_position_embeddings", 32},
                              {"type", "yarn"}};
  }
  if (IsIntegers(options.dtype)) {
    const bool packed = IsPacked(options.dtype);
    nlohmann::ordered_json weights = {{"num_bits", options.dtype == "INT4" ? 4 : 8},
                                      {"type", "int"},
                                      {"symmetric", !options.zeros},
                                      {"strategy", options.group == 0 ? "channel" : "group"},
                                      {"group_size", nullptr},
                                      {"dynamic", false},
                                      {"observer", "minmax"}};
    if (options.group != 0) weights["group_size"] = options.group;
    nlohmann::ordered_json group = {{"targets", {"Linear"}},
                                    {"weights", std::move(weights)},
                                    {"input_activations", nullptr},
                                    {"output_activations", nullptr}};
    config["quantization_config"] = {
        {"quant_method", "compressed-tensors"}, {"format", packed ? "pack-quantized" : "int-quantized"},
        {"quantization_status", "compressed"},  {"ignore", {"lm_head", "re:.*mlp.gate$"}},
        {"kv_cache_scheme", nullptr},           {"config_groups", {{"group_0", std::move(group)}}}};
  }
  if (options.dtype == "F8_E4M3") {
    config["quantization_config"] = {{"activation_scheme", "dynamic"},
                                     {"fmt", "e4m3"},
                                     {"quant_method", "fp8"},
                                     {"weight_block_size", {kBlock, kBlock}}};
  }
  return config;
}

}  // namespace

const TestTensor& TestModel::Tensor(const std::string& name) const {
  for (const auto& shard : shards) {
    for (const TestTensor& tensor : shard) {
      if (tensor.name == name) return tensor;
    }
  }
  fmt::print(stderr, "the test model has no tensor {}\n", name);
  std::abort();
}

TestTensor& TestModel::Tensor(const std::string& name) {
  return const_cast<TestTensor&>(std::as_const(*this).Tensor(name));
}

bool TestModel::Has(const std::string& name) const {
  for (const auto& shard : shards) {
    for (const TestTensor& tensor : shard) {
      if (tensor.name == name) return true;
    }
  }
  return false;
}

void TestModel::Erase(const std::string& name) {
  for (auto& shard : shards) std::erase_if(shard, [&](const TestTensor& t) { return t.name == name; });
}

nlohmann::ordered_json TestModel::Index() const {
  nlohmann::ordered_json map = nlohmann::ordered_json::object();
  for (size_t i = 0; i < shards.size(); ++i) {
    for (const TestTensor& tensor : shards[i]) map[tensor.name] = shard_names[i];
  }
  return {{"metadata", {{"total_size", 0}}}, {"weight_map", std::move(map)}};
}

void TestModel::Write(const std::string& folder) const {
  WriteFile(folder + "/config.json", config.dump(2));
  if (!generation.is_null()) WriteFile(folder + "/generation_config.json", generation.dump(2));
  for (size_t i = 0; i < shards.size(); ++i)
    WriteFile(folder + '/' + shard_names[i], SafetensorsBytes(shards[i]));
  if (shards.size() > 1) WriteFile(folder + "/model.safetensors.index.json", Index().dump());
}

TestModel MakeTestModel(const TestModelOptions& options) {
  TestModel model;
  model.config = ConfigOf(options);
  std::vector<TestTensor> all = Writer(options).All();
  const auto shards = static_cast<size_t>(options.shards);
  model.shards.resize(shards);
  for (size_t i = 0; i < all.size(); ++i) model.shards[i * shards / all.size()].push_back(std::move(all[i]));
  for (size_t i = 0; i < shards; ++i) {
    model.shard_names.push_back(shards == 1 ? "model.safetensors"
                                            : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards));
  }
  return model;
}

namespace {

// Value number `i` of `bits` in a run of little-endian words, lowest bits first.
int BitsAt(const std::string& bytes, size_t i, size_t bits) {
  const auto byte = static_cast<uint8_t>(bytes.at(i * bits / 8));
  return byte >> (i * bits % 8) & ((1 << bits) - 1);
}

// (q - zero) scale by definition: integers 2^(bits-1) above the signed ones, rows padded to whole words,
// zeros packed down the columns.
std::vector<float> IntegerValues(const TestModel& model, const std::string& name) {
  const bool packed = model.Has(name + "_packed");
  const TestTensor& stored = model.Tensor(packed ? name + "_packed" : name);
  const TestTensor& scale_tensor = model.Tensor(name + "_scale");
  const std::vector<float> scales = ValuesOf(model, name + "_scale");
  std::array<int64_t, 2> shape{stored.shape[0], stored.shape[1]};
  if (packed) std::memcpy(shape.data(), model.Tensor(name + "_shape").bytes.data(), 16);
  const auto rows = static_cast<size_t>(shape[0]);
  const auto columns = static_cast<size_t>(shape[1]);
  const auto groups = static_cast<size_t>(scale_tensor.shape[1]);
  const size_t bits = !packed || stored.shape[1] == (shape[1] * 8 + 31) / 32 ? 8 : 4;
  const std::string* zero_bytes =
      model.Has(name + "_zero_point") ? &model.Tensor(name + "_zero_point").bytes : nullptr;
  std::vector<float> values;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < columns; ++c) {
      const size_t g = c / (columns / groups);
      int value = 0;
      int zero = 0;
      if (packed) {
        value = BitsAt(stored.bytes.substr(r * static_cast<size_t>(stored.shape[1]) * 4), c, bits);
        zero = bits == 4 ? 8 : 128;
        if (zero_bytes != nullptr) {
          const size_t per_word = 32 / bits;
          zero = BitsAt(zero_bytes->substr((r / per_word * groups + g) * 4, 4), r % per_word, bits);
        }
      } else {
        value = static_cast<int8_t>(stored.bytes[r * columns + c]);
        if (zero_bytes != nullptr) zero = static_cast<int8_t>((*zero_bytes)[r * groups + g]);
      }
      values.push_back(static_cast<float>(value - zero) * scales[r * groups + g]);
    }
  }
  return values;
}

}  // namespace

std::vector<float> ValuesOf(const TestModel& model, const std::string& name) {
  if (model.Has(name + "_packed") || model.Tensor(name).dtype == "I8") return IntegerValues(model, name);
  const TestTensor& tensor = model.Tensor(name);
  const auto word = [&]<typename Word>(size_t i, Word) {
    Word bits;
    std::memcpy(&bits, tensor.bytes.data() + i * sizeof bits, sizeof bits);
    return bits;
  };
  size_t count = 1;
  for (const int64_t size : tensor.shape) count *= static_cast<size_t>(size);
  std::vector<float> values(count);
  const bool scaled = tensor.dtype == "F8_E4M3";
  const std::vector<float> scales = scaled ? ValuesOf(model, name + "_scale_inv") : std::vector<float>();
  for (size_t i = 0; i < count; ++i) {
    if (tensor.dtype == "F32") {
      values[i] = word(i, float{});
    } else if (tensor.dtype == "BF16") {
      values[i] = std::bit_cast<float>(uint32_t{word(i, uint16_t{})} << 16);
    } else if (tensor.dtype == "F16") {
      values[i] = HalfByDefinition(word(i, uint16_t{}));
    } else {
      const auto columns = static_cast<size_t>(tensor.shape[1]);
      const size_t block = i / columns / kBlock * ((columns + kBlock - 1) / kBlock) + i % columns / kBlock;
      const int bits = word(i, uint8_t{});
      const int exponent = (bits >> 3) & 15;
      const double magnitude =
          exponent == 0 ? std::ldexp(bits & 7, -9) : std::ldexp(8 + (bits & 7), exponent - 10);
      values[i] = static_cast<float>((bits & 0x80) != 0 ? -magnitude : magnitude) * scales[block];
    }
  }
  return values;
}

}  // namespace moraine::test
