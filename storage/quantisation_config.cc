#include "storage/quantisation_config.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/core/printable.h"
#include "storage/json_fields.h"

namespace moraine {
namespace {

using nlohmann::json;

constexpr char kDocument[] = "config.json";
constexpr char kPrefix[] = "quantization_config.";
constexpr char kFormats[] =
    "\"pack-quantized\", \"int-quantized\", \"float-quantized\" or \"naive-quantized\", or "
    "\"mixed-precision\" of these";

bool IsReadFormat(const std::string& format) {
  return format == "pack-quantized" || format == "int-quantized" || format == "float-quantized" ||
         format == "naive-quantized";
}

Status ReadDeepSeekFp8(JsonFields& f, ModelShape& s) {
  if (f.String("fmt", "e4m3") != "e4m3") f.Refuse("fmt", "\"e4m3\"");
  if (!f.Given("weight_block_size"))
    f.Refuse("weight_block_size", "a list of two integers: scales for a whole tensor are not supported");
  const auto [rows, columns] = f.Int32Pair("weight_block_size");
  s.fp8 = Fp8Blocks{.rows = rows, .columns = columns};
  return f.status();
}

// A field that must be absent, null or {}: anything in it would change what is computed.
void RefuseUnlessEmpty(JsonFields& f, const char* name, const char* why) {
  const json* object = f.Object(name);
  if (object != nullptr && !object->empty()) f.Refuse(name, fmt::format("null: {}", why));
}

void ReadFp8Weights(JsonFields& f, ModelShape& s) {
  if (f.Int32("num_bits", 8) != 8) f.Refuse("num_bits", "8 for type \"float\"");
  if (f.String("strategy", "") != "block") f.Refuse("strategy", "\"block\" for type \"float\"");
  if (!f.Bool("symmetric", true)) f.Refuse("symmetric", "true for type \"float\"");
  const auto [rows, columns] = f.Int32Pair("block_structure");
  if (s.fp8 && (s.fp8->rows != rows || s.fp8->columns != columns))
    f.Refuse("block_structure", fmt::format("[{}, {}] as in another group", s.fp8->rows, s.fp8->columns));
  s.fp8 = Fp8Blocks{.rows = rows, .columns = columns};
}

void ReadIntegerWeights(JsonFields& f, ModelShape& s) {
  IntegerScheme scheme;
  scheme.bits = f.Int32("num_bits", 8);
  if (scheme.bits != 4 && scheme.bits != 8) f.Refuse("num_bits", "4 or 8");
  scheme.symmetric = f.Bool("symmetric", true);
  const int64_t size = f.Integer("group_size", -1);
  // Without a strategy the group size says which, as in the compressed-tensors package.
  const std::string strategy = f.String("strategy", f.Given("group_size") && size > 0 ? "group" : "channel");
  if (strategy == "group") {
    if (size < 1 || size > (int64_t{1} << 24)) f.Refuse("group_size", "1 to 16777216");
    scheme.group = size;
  } else if (strategy == "channel") {
    if (f.Given("group_size") && size != -1) f.Refuse("group_size", "null or -1 for strategy \"channel\"");
  } else {
    f.Refuse("strategy", "\"group\" or \"channel\"");
  }
  if (std::find(s.integer.begin(), s.integer.end(), scheme) == s.integer.end()) s.integer.push_back(scheme);
}

Status ReadWeights(const json& object, const std::string& prefix, ModelShape& s) {
  JsonFields f(object, kDocument, prefix + "weights.");
  if (f.IsTrue("dynamic")) f.Refuse("dynamic", "false");
  // "weight" and "static" order the columns while calibrating only; "group" stores them out of order.
  if (f.IsTrue("actorder")) f.Refuse("actorder", "null or \"weight\": columns in their own order");
  if (f.IsString("actorder")) {
    const std::string order = f.String("actorder", "");
    if (order != "weight" && order != "static")
      f.Refuse("actorder", "null or \"weight\": columns in their own order");
  }
  const std::string type = f.String("type", "int");
  if (type == "int") {
    ReadIntegerWeights(f, s);
  } else if (type == "float") {
    ReadFp8Weights(f, s);
  } else {
    f.Refuse("type", "\"int\" or \"float\"");
  }
  return f.status();
}

Status ReadInputActivations(const json& object, const std::string& prefix) {
  JsonFields f(object, kDocument, prefix + "input_activations.");
  if (!f.IsTrue("dynamic"))
    f.Refuse("dynamic", "true: static ranges of activations are part of the model and not supported");
  return f.status();
}

Status ReadGroup(const json& object, const std::string& prefix, ModelShape& s) {
  JsonFields f(object, kDocument, prefix);
  f.Strings("targets");
  if (f.Given("format") && !IsReadFormat(f.String("format", ""))) f.Refuse("format", kFormats);
  if (f.Given("output_activations")) f.Refuse("output_activations", "null");
  const json* weights = f.Object("weights");
  if (weights == nullptr) f.Refuse("weights", "an object: how the weights are stored");
  const json* activations = f.Object("input_activations");
  MORAINE_RETURN_IF_ERROR(f.status());
  MORAINE_RETURN_IF_ERROR(ReadWeights(*weights, prefix, s));
  return activations == nullptr ? Status() : ReadInputActivations(*activations, prefix);
}

Status ReadCompressedTensors(JsonFields& f, ModelShape& s) {
  const std::string format = f.String("format", "");
  if (!IsReadFormat(format) && format != "mixed-precision") f.Refuse("format", kFormats);
  if (f.String("quantization_status", "compressed") != "compressed")
    f.Refuse("quantization_status", "\"compressed\"");
  f.Strings("ignore");
  RefuseUnlessEmpty(f, "kv_cache_scheme", "a quantised KV cache is not part of a checkpoint here");
  RefuseUnlessEmpty(f, "transform_config", "transforms of weights are not supported");
  RefuseUnlessEmpty(f, "moe_sparsity_config", "sparse experts are not supported");
  if (const json* sparsity = f.Object("sparsity_config")) {
    JsonFields inner(*sparsity, kDocument, std::string(kPrefix) + "sparsity_config.");
    if (inner.String("format", "dense") != "dense") inner.Refuse("format", "\"dense\"");
    MORAINE_RETURN_IF_ERROR(inner.status());
  }
  const json* groups = f.Object("config_groups");
  if (groups == nullptr || groups->empty()) f.Refuse("config_groups", "an object with one group or more");
  MORAINE_RETURN_IF_ERROR(f.status());
  for (const auto& [name, group] : groups->items()) {
    MORAINE_RETURN_IF_ERROR(
        ReadGroup(group, fmt::format("{}config_groups.{}.", kPrefix, Printable(name, 40)), s));
  }
  return {};
}

}  // namespace

Status ReadQuantisation(const json& object, ModelShape& s) {
  JsonFields f(object, kDocument, kPrefix);
  const std::string method = f.String("quant_method", "");
  if (method == "fp8") return ReadDeepSeekFp8(f, s);
  if (method == "compressed-tensors") return ReadCompressedTensors(f, s);
  f.Refuse("quant_method", "\"fp8\", \"compressed-tensors\", or unquantised weights");
  return f.status();
}

}  // namespace moraine
