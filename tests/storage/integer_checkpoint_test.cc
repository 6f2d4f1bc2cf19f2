// storage/tensor_parts.h through Checkpoint: integers of compressed-tensors read back, and parts that
// disagree.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "storage/tensor_parts.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_model.h"

namespace moraine {
namespace {

using test::MakeTestModel;
using test::TempFolder;
using test::TestModel;
using test::TestModelOptions;
using test::TestTensor;
using ::testing::HasSubstr;

const std::string kUp3 = "model.layers.1.mlp.experts.3.up_proj.weight";  // [18, 40]
constexpr WeightId kUp3Id = {WeightRole::kExpertUp, LayerId{1}, ExpertId{3}};

struct Opened {
  explicit Opened(const TestModel& model, const CheckpointOptions& options = {}) {
    model.Write(folder.path());
    result = Checkpoint::Open(folder.path(), options);
  }
  TempFolder folder;
  Result<Checkpoint> result = Fail(ErrorKind::kInternal, "not opened");
};

std::string Refusal(const TestModel& model) {
  const Opened opened(model);
  if (opened.result.has_value()) return "";
  EXPECT_EQ(opened.result.error().kind, ErrorKind::kModel) << opened.result.error().message;
  return opened.result.error().message;
}

std::vector<float> Read(const Checkpoint& checkpoint, const StoredTensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.values()));
  const Status status = checkpoint.ReadF32(tensor, values);
  EXPECT_TRUE(status.has_value()) << status.error().message;
  return values;
}

template <typename T>
std::string Bytes(std::initializer_list<T> values) {
  return std::string(reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T));
}

TEST(IntegerCheckpoint, ReadsEveryValueOfEveryLayout) {
  for (const char* dtype : {"INT4", "INT8", "I8"}) {
    for (const int64_t group : {0, 2}) {
      for (const bool zeros : {false, true}) {
        const TestModel model =
            MakeTestModel({.dtype = dtype, .group = group, .zeros = zeros, .mtp_layers = 1, .shards = 3});
        const Opened opened(model, {.mtp = true});
        ASSERT_TRUE(opened.result.has_value()) << opened.result.error().message;
        const Checkpoint& checkpoint = *opened.result;
        EXPECT_TRUE(CheckValues(checkpoint).has_value());
        EXPECT_TRUE(checkpoint.report().extras.empty());
        int integers = 0;
        for (const StoredTensor& tensor : checkpoint.tensors()) {
          const std::string name = checkpoint.NameOf(tensor.id);
          ASSERT_EQ(Read(checkpoint, tensor), test::ValuesOf(model, name)) << dtype << ' ' << name;
          integers += IsInteger(tensor.format) ? 1 : 0;
          EXPECT_EQ(tensor.zeros.has_value(), zeros && IsInteger(tensor.format));
        }
        EXPECT_EQ(integers, 4 * 5 + 3 + 3 * 27);  // attention, the dense MLP, shared and routed experts
      }
    }
  }
}

TEST(IntegerCheckpoint, NamesFormatsAndSumsTheirBytes) {
  const Opened opened(MakeTestModel({.dtype = "INT4", .zeros = true}));
  ASSERT_TRUE(opened.result.has_value()) << opened.result.error().message;
  const ClassSum& routed = opened.result->report().classes[static_cast<size_t>(TensorClass::kRouted)];
  // 16 experts: gate and up of 18 rows of 40 columns, 5 words each; down of 40 rows of 18, 3 words each.
  EXPECT_EQ(routed.weights, 16 * 3 * 18 * 40);
  EXPECT_EQ(routed.bytes, 16 * 4 * (2 * 18 * 5 + 40 * 3));
  // Two-byte scales, and zeros of eight rows to a word.
  EXPECT_EQ(routed.scale_bytes, 16 * (2 * (18 * 20 * 2 + 3 * 20 * 4) + 40 * 9 * 2 + 5 * 9 * 4));
  ASSERT_EQ(routed.bytes_by_format.size(), 1u);
  EXPECT_EQ(routed.bytes_by_format.at("int4-g2-zeros"), routed.bytes);
  EXPECT_EQ(FormatName(*Opened(MakeTestModel({.dtype = "I8", .group = 0})).result->Find(kUp3Id)), "int8-row");
}

TEST(IntegerCheckpoint, KeepsScalesInTheirStoredType) {
  TestModel model = MakeTestModel({.dtype = "INT8", .group = 0});
  TestTensor& scale = model.Tensor(kUp3 + "_scale");
  for (const char* dtype : {"BF16", "F16"}) {
    scale.dtype = dtype;
    const Opened opened(model);
    ASSERT_TRUE(opened.result.has_value()) << opened.result.error().message;
    const StoredTensor& up = *opened.result->Find(kUp3Id);
    const MatView view = ViewOf(up, nullptr, nullptr, nullptr);
    EXPECT_EQ(view.scale_type, dtype == std::string("F16") ? ScaleType::kF16 : ScaleType::kBf16);
    EXPECT_EQ(view.block_columns, 40);
    EXPECT_EQ(view.block_rows, 1);
    EXPECT_EQ(Read(*opened.result, up), test::ValuesOf(model, kUp3));
  }
}

// As Kimi-K2-Thinking is published: only routed experts are integers, shapes are I32.
TEST(IntegerCheckpoint, MixesIntegersAndFloatsTensorByTensor) {
  TestModel model = MakeTestModel({.dtype = "INT4"});
  const TestModel plain = MakeTestModel({.dtype = "BF16"});
  for (auto& shard : model.shards) {
    std::vector<TestTensor> kept;
    for (TestTensor& tensor : shard) {
      if (tensor.name.ends_with("_shape")) {
        std::string narrow = tensor.bytes.substr(0, 4) + tensor.bytes.substr(8, 4);
        tensor.dtype = "I32";
        tensor.bytes = narrow;
      }
      const bool part = tensor.name.find(".weight_") != tensor.name.npos;
      if (!part || tensor.name.find(".experts.") != tensor.name.npos) kept.push_back(tensor);
    }
    for (const TestTensor& tensor : plain.shards[0]) {
      if (!model.Has(tensor.name) && tensor.name.find(".experts.") == tensor.name.npos)
        kept.push_back(tensor);
    }
    shard = kept;
  }
  const Opened opened(model);
  ASSERT_TRUE(opened.result.has_value()) << opened.result.error().message;
  EXPECT_EQ(FormatName(*opened.result->Find(kUp3Id)), "int4-g2");
  EXPECT_EQ(FormatName(*opened.result->Find({WeightRole::kO, LayerId{1}, {}})), "bf16");
}

TEST(IntegerCheckpoint, TakesTheSchemeThatTheTensorsFollow) {
  TestModel model = MakeTestModel({.dtype = "INT4"});
  const TestModel rows = MakeTestModel({.dtype = "INT8", .group = 0, .zeros = true});
  for (const char* part : {"_packed", "_scale", "_zero_point"}) {
    if (model.Has(kUp3 + part)) {
      model.Tensor(kUp3 + part) = rows.Tensor(kUp3 + part);
    } else {
      model.shards[0].push_back(rows.Tensor(kUp3 + part));
    }
  }
  EXPECT_THAT(Refusal(model), HasSubstr("has shape [18, 10]; expected [18, 5]"));
  model.config["quantization_config"]["config_groups"]["group_1"] =
      rows.config["quantization_config"]["config_groups"]["group_0"];
  const Opened opened(model);
  ASSERT_TRUE(opened.result.has_value()) << opened.result.error().message;
  EXPECT_EQ(FormatName(*opened.result->Find(kUp3Id)), "int8-row-zeros");
  EXPECT_EQ(Read(*opened.result, *opened.result->Find(kUp3Id)), test::ValuesOf(model, kUp3));
}

// A row shorter than another scheme's group has one scale too; only the scheme of rows can have meant it.
TEST(IntegerCheckpoint, TakesNoSchemeWhoseGroupDoesNotDivide) {
  TestModel model = MakeTestModel({.dtype = "INT4", .group = 0});
  auto& groups = model.config["quantization_config"]["config_groups"];
  groups["group_1"] = groups["group_0"];
  groups["group_0"]["weights"]["strategy"] = "group";
  groups["group_0"]["weights"]["group_size"] = 64;
  const Opened opened(model);
  ASSERT_TRUE(opened.result.has_value()) << opened.result.error().message;
  EXPECT_EQ(FormatName(*opened.result->Find(kUp3Id)), "int4-row");
}

TEST(IntegerCheckpoint, TakesAGroupIndexThatSaysNothing) {
  TestModel model = MakeTestModel({.dtype = "INT4"});
  std::string in_order;
  std::string unused;
  for (int32_t c = 0; c < 40; ++c) {
    in_order += Bytes<int32_t>({c / 2});
    unused += Bytes<int32_t>({-1});
  }
  model.shards[0].push_back({kUp3 + "_g_idx", "I32", {40}, in_order});
  EXPECT_EQ(Refusal(model), "");
  model.Tensor(kUp3 + "_g_idx").bytes = unused;
  EXPECT_EQ(Refusal(model), "");
  std::swap(in_order[0], in_order[8]);
  model.Tensor(kUp3 + "_g_idx").bytes = in_order;
  EXPECT_THAT(Refusal(model), HasSubstr("_g_idx\" puts column 0 into group 1; expected 0"));
  model.Tensor(kUp3 + "_g_idx").shape = {2, 20};
  EXPECT_THAT(Refusal(model), HasSubstr("_g_idx\" has shape [2, 20]; expected [40]"));
}

TEST(IntegerCheckpoint, ReadsFp8BlocksByTheirCompressedTensorsName) {
  TestModel model = MakeTestModel({.dtype = "F8_E4M3"});
  const std::vector<float> want = test::ValuesOf(model, kUp3);
  model.Rename(kUp3 + "_scale_inv", kUp3 + "_scale");
  const Opened opened(model);
  ASSERT_TRUE(opened.result.has_value()) << opened.result.error().message;
  EXPECT_EQ(Read(*opened.result, *opened.result->Find(kUp3Id)), want);
}

struct Spoiled {
  const char* fragment;
  TestModelOptions options;
  void (*spoil)(TestModel&);
};

// Drops the last of the second dimension's entries.
void Narrow(TestTensor& tensor, int64_t entry_bytes) {
  --tensor.shape.back();
  int64_t count = 1;
  for (const int64_t size : tensor.shape) count *= size;
  tensor.bytes.resize(static_cast<size_t>(count * entry_bytes));
}

TEST(IntegerCheckpoint, NamesThePartThatCannotBe) {
  const TestModelOptions int4 = {.dtype = "INT4"};
  const TestModelOptions zeros = {.dtype = "INT4", .zeros = true};
  const TestModelOptions plain = {.dtype = "I8", .zeros = true};
  const Spoiled cases[] = {
      {"_scale\" is missing", int4, [](TestModel& m) { m.Erase(kUp3 + "_scale"); }},
      {"_shape\" is missing", int4, [](TestModel& m) { m.Erase(kUp3 + "_shape"); }},
      {"is there, but its weight is not", int4, [](TestModel& m) { m.Erase(kUp3 + "_packed"); }},
      {"_zero_point\" is missing: config.json says symmetric is false", zeros,
       [](TestModel& m) { m.Erase(kUp3 + "_zero_point"); }},
      {"_zero_point\" is missing", plain, [](TestModel& m) { m.Erase(kUp3 + "_zero_point"); }},
      {"_zero_point\" is there, but config.json says symmetric", int4,
       [](TestModel& m) {
         m.shards[0].push_back({kUp3 + "_zero_point", "I32", {3, 20}, std::string(240, '\0')});
       }},
      {"are both there", int4,
       [](TestModel& m) {
         m.shards[0].push_back({kUp3, "BF16", {18, 40}, std::string(1440, '\0')});
       }},
      {"_packed\" has shape [18, 4]; expected [18, 5]: [18, 40] in 4 bits", int4,
       [](TestModel& m) { Narrow(m.Tensor(kUp3 + "_packed"), 4); }},
      {"_packed\" has shape [90]; expected two dimensions", int4,
       [](TestModel& m) { m.Tensor(kUp3 + "_packed").shape = {90}; }},
      {"_packed\" has shape []; expected two dimensions", int4,
       [](TestModel& m) {
         m.Tensor(kUp3 + "_packed").shape = {};
         m.Tensor(kUp3 + "_packed").bytes.resize(4);
       }},
      {"_packed\" is F32; expected I32", int4,
       [](TestModel& m) { m.Tensor(kUp3 + "_packed").dtype = "F32"; }},
      {"_scale\" has shape [18, 19]; expected [18, 20]: one scale for each 2 of 40 columns", int4,
       [](TestModel& m) { Narrow(m.Tensor(kUp3 + "_scale"), 2); }},
      {"_scale\" has shape [360]; expected [18, 20]", int4,
       [](TestModel& m) { m.Tensor(kUp3 + "_scale").shape = {360}; }},
      {"_scale\" is I16; expected F32 or BF16 or F16", int4,
       [](TestModel& m) { m.Tensor(kUp3 + "_scale").dtype = "I16"; }},
      {"_zero_point\" has shape [3, 19]; expected [3, 20]: a zero of 4 bits for each scale, 8 rows", zeros,
       [](TestModel& m) { Narrow(m.Tensor(kUp3 + "_zero_point"), 4); }},
      {"_zero_point\" is F32; expected I32", zeros,
       [](TestModel& m) { m.Tensor(kUp3 + "_zero_point").dtype = "F32"; }},
      {"_zero_point\" is U8; expected I8", plain,
       [](TestModel& m) { m.Tensor(kUp3 + "_zero_point").dtype = "U8"; }},
      {"has shape [18, 39]; expected [18, 40]", plain, [](TestModel& m) { Narrow(m.Tensor(kUp3), 1); }},
      {"_shape\" says [40, 18], config.json asks for [18, 40]", int4,
       [](TestModel& m) {
         m.Tensor(kUp3 + "_shape").bytes = Bytes<int64_t>({40, 18});
       }},
      {"_shape\" says [-18, 9223372036854775807]", int4,
       [](TestModel& m) {
         m.Tensor(kUp3 + "_shape").bytes = Bytes<int64_t>({-18, INT64_MAX});
       }},
      {"_shape\" has shape [1, 2]; expected [2]", int4,
       [](TestModel& m) {
         m.Tensor(kUp3 + "_shape").shape = {1, 2};
       }},
      {"_shape\" is F64; expected I64 or I32", int4,
       [](TestModel& m) { m.Tensor(kUp3 + "_shape").dtype = "F64"; }},
      {"group_size 16 does not divide the 40 columns of", int4,
       [](TestModel& m) {
         m.config["quantization_config"]["config_groups"]["group_0"]["weights"]["group_size"] = 16;
       }},
      {"group_size 16777216 does not divide the 40 columns of", int4,
       [](TestModel& m) {
         m.config["quantization_config"]["config_groups"]["group_0"]["weights"]["group_size"] = 1 << 24;
       }},
      {"config.json has no quantization_config of compressed-tensors", int4,
       [](TestModel& m) { m.config.erase("quantization_config"); }},
      {"is I8, but config.json has no quantization_config of compressed-tensors", plain,
       [](TestModel& m) { m.config.erase("quantization_config"); }},
      {"is I8, but no group of config.json has num_bits 8", plain,
       [](TestModel& m) {
         m.config["quantization_config"]["config_groups"]["group_0"]["weights"]["num_bits"] = 4;
       }},
      {"takes no block scales or other parts", plain,
       [](TestModel& m) {
         m.shards[0].push_back({kUp3 + "_shape", "I64", {2}, Bytes<int64_t>({18, 40})});
       }},
      {"takes no block scales or other parts",
       {.dtype = "BF16"},
       [](TestModel& m) {
         m.shards[0].push_back({kUp3 + "_scale", "BF16", {18, 1}, std::string(36, '\0')});
       }},
      {"_scale\" is there, but",
       {.dtype = "F8_E4M3"},
       [](TestModel& m) {
         m.shards[0].push_back(m.Tensor(kUp3 + "_scale_inv"));
         m.shards[0].back().name = kUp3 + "_scale";
       }},
      {"\"model.embed_tokens.weight\" is int8-row; expected an embedding in F32, F16 or BF16",
       {.dtype = "I8", .group = 0},
       [](TestModel& m) {
         m.Tensor("model.embed_tokens.weight") = {
             "model.embed_tokens.weight", "I8", {50, 40}, std::string(2000, 1)};
         m.shards[0].push_back({"model.embed_tokens.weight_scale", "BF16", {50, 1}, std::string(100, '\0')});
       }},
      {"\"model.norm.weight\" is I8; expected F32, F16 or BF16", plain,
       [](TestModel& m) {
         m.Tensor("model.norm.weight") = {"model.norm.weight", "I8", {40}, std::string(40, 1)};
       }},
  };
  for (const Spoiled& c : cases) {
    TestModel model = MakeTestModel(c.options);
    EXPECT_EQ(Refusal(model), "") << "the unspoiled model";
    c.spoil(model);
    EXPECT_THAT(Refusal(model), HasSubstr(c.fragment));
  }
}

TEST(IntegerCheckpoint, RefusesANormInPackedIntegers) {
  TestModel model = MakeTestModel({.dtype = "INT4"});
  model.Rename("model.norm.weight", "model.norm.weight_packed");
  // No columns to divide anything by.
  model.Tensor("model.norm.weight_packed") = {"model.norm.weight_packed", "I32", {40, 0}, ""};
  EXPECT_THAT(Refusal(model), HasSubstr("\"model.norm.weight_packed\" is there; expected"));
}

TEST(IntegerCheckpoint, CheckValuesNamesTheScaleThatIsNone) {
  TestModel model = MakeTestModel({.dtype = "INT4"});
  const uint16_t infinite = 0x7F80;
  std::memcpy(model.Tensor(kUp3 + "_scale").bytes.data() + 2 * 21, &infinite, 2);
  const Opened opened(model);
  ASSERT_TRUE(opened.result.has_value()) << opened.result.error().message;
  const Status status = CheckValues(*opened.result);
  ASSERT_FALSE(status.has_value());
  EXPECT_THAT(status.error().message, HasSubstr("up_proj.weight_scale\" is infinite at [1, 1]"));
}

}  // namespace
}  // namespace moraine
