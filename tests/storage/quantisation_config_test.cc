// storage/quantisation_config.h: what of compressed-tensors is read, and what is refused by name.
#include "storage/quantisation_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "storage/hf_config.h"
#include "tests/support/test_model.h"

namespace moraine {
namespace {

using nlohmann::ordered_json;
using test::MakeTestModel;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

ordered_json Config(std::string_view dtype = "INT4") { return MakeTestModel({.dtype = dtype}).config; }
ordered_json& Weights(ordered_json& config) {
  return config["quantization_config"]["config_groups"]["group_0"]["weights"];
}

Result<ModelShape> Parse(const ordered_json& config) { return ParseHfConfig(config.dump(), "folder"); }

TEST(QuantisationConfig, ReadsIntegersOfGroupsAndRows) {
  ordered_json config = Config();
  Weights(config)["group_size"] = 32;
  Weights(config)["actorder"] = "weight";
  ordered_json second = config["quantization_config"]["config_groups"]["group_0"];
  second["weights"] = {{"num_bits", 8}, {"symmetric", false}, {"strategy", "channel"}, {"group_size", -1}};
  second["input_activations"] = {{"num_bits", 8}, {"type", "int"}, {"dynamic", true}, {"strategy", "token"}};
  second["format"] = "int-quantized";
  config["quantization_config"]["config_groups"]["group_1"] = second;
  config["quantization_config"]["format"] = "mixed-precision";
  config["quantization_config"]["sparsity_config"] = {{"format", "dense"}};
  config["quantization_config"]["transform_config"] = ordered_json::object();
  const Result<ModelShape> shape = Parse(config);
  ASSERT_TRUE(shape.has_value()) << shape.error().message;
  EXPECT_THAT(shape->integer, ElementsAre(IntegerScheme{.bits = 4, .group = 32},
                                          IntegerScheme{.bits = 8, .symmetric = false}));
  EXPECT_FALSE(shape->fp8.has_value());
}

TEST(QuantisationConfig, InfersTheStrategyFromTheGroupSize) {
  ordered_json config = Config();
  Weights(config).erase("strategy");
  EXPECT_THAT(Parse(config)->integer, ElementsAre(IntegerScheme{.bits = 4, .group = 2}));
  Weights(config)["group_size"] = -1;
  EXPECT_THAT(Parse(config)->integer, ElementsAre(IntegerScheme{.bits = 4}));
}

TEST(QuantisationConfig, ReadsFp8BlocksUnderTheOtherName) {
  ordered_json config = Config();
  Weights(config) = {
      {"num_bits", 8}, {"type", "float"}, {"strategy", "block"}, {"block_structure", {128, 64}}};
  config["quantization_config"]["format"] = "float-quantized";
  const Result<ModelShape> shape = Parse(config);
  ASSERT_TRUE(shape.has_value()) << shape.error().message;
  ASSERT_TRUE(shape->fp8.has_value());
  EXPECT_EQ(shape->fp8->rows, 128);
  EXPECT_EQ(shape->fp8->columns, 64);
}

struct Spoiled {
  const char* fragment;
  void (*spoil)(ordered_json& quantisation, ordered_json& weights);
};

TEST(QuantisationConfig, NamesTheFieldThatCannotBe) {
  using J = ordered_json;
  const Spoiled cases[] = {
      {"quant_method is \"awq\"", [](J& q, J&) { q["quant_method"] = "awq"; }},
      {"quant_method is missing", [](J& q, J&) { q.erase("quant_method"); }},
      {"format is \"nvfp4-pack-quantized\"", [](J& q, J&) { q["format"] = "nvfp4-pack-quantized"; }},
      {"format is missing", [](J& q, J&) { q.erase("format"); }},
      {"group_0.format is \"marlin-24\"",
       [](J& q, J&) { q["config_groups"]["group_0"]["format"] = "marlin-24"; }},
      {"quantization_status is \"frozen\"", [](J& q, J&) { q["quantization_status"] = "frozen"; }},
      {"config_groups is {}", [](J& q, J&) { q["config_groups"] = J::object(); }},
      {"config_groups is []", [](J& q, J&) { q["config_groups"] = J::array(); }},
      {"config_groups is missing", [](J& q, J&) { q.erase("config_groups"); }},
      {"expected an object",
       [](J& q, J&) {
         q["config_groups"] = {{"W4A16", {"Linear"}}};
       }},
      {"ignore is \"lm_head\"", [](J& q, J&) { q["ignore"] = "lm_head"; }},
      {"targets is [1]", [](J& q, J&) { q["config_groups"]["group_0"]["targets"] = {1}; }},
      {"kv_cache_scheme is ",
       [](J& q, J&) {
         q["kv_cache_scheme"] = {{"num_bits", 8}};
       }},
      {"transform_config is ",
       [](J& q, J&) {
         q["transform_config"] = {{"config_groups", 1}};
       }},
      {"sparsity_config.format is \"sparse-24-bitmask\"",
       [](J& q, J&) {
         q["sparsity_config"] = {{"format", "sparse-24-bitmask"}};
       }},
      {"output_activations is ",
       [](J& q, J&) {
         q["config_groups"]["group_0"]["output_activations"] = {{"num_bits", 8}};
       }},
      {"input_activations.dynamic is false",
       [](J& q, J&) {
         q["config_groups"]["group_0"]["input_activations"] = {{"dynamic", false}};
       }},
      {"input_activations.dynamic is \"local\"",
       [](J& q, J&) {
         q["config_groups"]["group_0"]["input_activations"] = {{"dynamic", "local"}};
       }},
      {"weights is missing", [](J& q, J&) { q["config_groups"]["group_0"].erase("weights"); }},
      {"num_bits is 3", [](J&, J& w) { w["num_bits"] = 3; }},
      {"num_bits is -4", [](J&, J& w) { w["num_bits"] = -4; }},
      {"num_bits is \"4\"", [](J&, J& w) { w["num_bits"] = "4"; }},
      {"weights.type is \"uint\"", [](J&, J& w) { w["type"] = "uint"; }},
      {"group_size is 0", [](J&, J& w) { w["group_size"] = 0; }},
      {"group_size is -1", [](J&, J& w) { w["group_size"] = -1; }},
      {"group_size is 9223372036854775807", [](J&, J& w) { w["group_size"] = INT64_MAX; }},
      {"group_size is null", [](J&, J& w) { w["group_size"] = nullptr; }},
      {"group_size is 32", [](J&, J& w) { w["strategy"] = "channel", w["group_size"] = 32; }},
      {"strategy is \"tensor\"", [](J&, J& w) { w["strategy"] = "tensor"; }},
      {"actorder is \"group\"", [](J&, J& w) { w["actorder"] = "group"; }},
      {"actorder is true", [](J&, J& w) { w["actorder"] = true; }},
      {"dynamic is true", [](J&, J& w) { w["dynamic"] = true; }},
      {"symmetric is \"no\"", [](J&, J& w) { w["symmetric"] = "no"; }},
      {"block_structure is missing",
       [](J&, J& w) {
         w = {{"num_bits", 8}, {"type", "float"}, {"strategy", "block"}};
       }},
      {"strategy is \"tensor\"",
       [](J&, J& w) {
         w = {{"num_bits", 8}, {"type", "float"}, {"strategy", "tensor"}};
       }},
      {"num_bits is 4",
       [](J&, J& w) {
         w = {{"num_bits", 4}, {"type", "float"}, {"strategy", "block"}};
       }},
      {"block_structure is [64,64]",
       [](J& q, J& w) {
         w = {{"num_bits", 8}, {"type", "float"}, {"strategy", "block"}, {"block_structure", {128, 128}}};
         q["config_groups"]["group_1"] = q["config_groups"]["group_0"];
         q["config_groups"]["group_1"]["weights"]["block_structure"] = {64, 64};
       }},
  };
  for (const Spoiled& c : cases) {
    ordered_json config = Config();
    c.spoil(config["quantization_config"], Weights(config));
    const Result<ModelShape> shape = Parse(config);
    ASSERT_FALSE(shape.has_value()) << c.fragment;
    EXPECT_EQ(shape.error().kind, ErrorKind::kModel);
    EXPECT_THAT(shape.error().message, HasSubstr("folder: config.json: quantization_config."));
    EXPECT_THAT(shape.error().message, HasSubstr(c.fragment));
  }
}

}  // namespace
}  // namespace moraine
