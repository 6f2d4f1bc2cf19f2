// storage/checkpoint.h: values read back as written, and config and weights that disagree.
#include "storage/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <limits>

#include "tests/support/temp_folder.h"
#include "tests/support/test_model.h"

namespace moraine {
namespace {

using test::MakeTestModel;
using test::TempFolder;
using test::TestFamily;
using test::TestModel;
using test::TestModelOptions;
using test::TestTensor;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kUp3[] = "model.layers.1.mlp.experts.3.up_proj.weight";
constexpr WeightId kUp3Id = {WeightRole::kExpertUp, LayerId{1}, ExpertId{3}};

struct Opened {
  Opened(const TestModel& model, const CheckpointOptions& options) {
    model.Write(folder.path());
    result = Checkpoint::Open(folder.path(), options);
  }
  TempFolder folder;
  Result<Checkpoint> result = Fail(ErrorKind::kInternal, "not opened");
};

std::string Refusal(const TestModel& model, const CheckpointOptions& options = {}) {
  const Opened opened(model, options);
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

TEST(Checkpoint, ReadsEveryValueOfEveryFamilyAndFormat) {
  for (const TestFamily family :
       {TestFamily::kV3, TestFamily::kMoonlight, TestFamily::kV2, TestFamily::kV2Lite}) {
    for (const char* dtype : {"F32", "F16", "BF16", "F8_E4M3"}) {
      const int32_t mtp = family == TestFamily::kV3 ? 1 : 0;
      const TestModel model =
          MakeTestModel({.family = family, .dtype = dtype, .mtp_layers = mtp, .shards = 3});
      const Opened opened(model, {.mtp = mtp == 1});
      ASSERT_TRUE(opened.result.has_value()) << opened.result.error().message;
      const Checkpoint& checkpoint = *opened.result;
      EXPECT_TRUE(CheckValues(checkpoint).has_value());
      EXPECT_TRUE(checkpoint.report().extras.empty());
      size_t scales = 0;
      for (const StoredTensor& tensor : checkpoint.tensors()) {
        const std::string name = checkpoint.NameOf(tensor.id);
        ASSERT_EQ(Read(checkpoint, tensor), test::ValuesOf(model, name)) << dtype << ' ' << name;
        ASSERT_EQ(checkpoint.Find(tensor.id), &tensor);
        scales += tensor.scales ? 1 : 0;
      }
      EXPECT_EQ(static_cast<int64_t>(checkpoint.tensors().size() + scales),
                checkpoint.report().stored_tensors);
    }
  }
}

// Folders written by transformers itself; each has every tensor the loader asks for and nothing more.
TEST(Checkpoint, OpensTheGoldenFolders) {
  const std::string goldens = MORAINE_SOURCE_DIR "/tests/goldens";
  if (!std::filesystem::is_directory(goldens)) GTEST_SKIP() << goldens << " is not there";
  int opened = 0;
  for (const auto& entry : std::filesystem::directory_iterator(goldens)) {
    if (!std::filesystem::exists(entry.path() / "config.json")) continue;
    const auto checkpoint = Checkpoint::Open(entry.path().string());
    ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
    EXPECT_TRUE(checkpoint->report().extras.empty()) << entry.path();
    EXPECT_TRUE(CheckValues(*checkpoint).has_value());
    ++opened;
  }
  EXPECT_GT(opened, 0);
}

TEST(Checkpoint, SumsBytesByClassAndFormat) {
  const Opened opened(MakeTestModel({.dtype = "F8_E4M3", .mtp_layers = 1}), {});
  ASSERT_TRUE(opened.result.has_value()) << opened.result.error().message;
  const CheckpointReport& report = opened.result->report();
  const ClassSum& routed = report.classes[static_cast<size_t>(TensorClass::kRouted)];
  EXPECT_EQ(routed.tensors, 2 * 8 * 3);
  EXPECT_EQ(routed.weights, 2 * 8 * 3 * 18 * 40);
  EXPECT_EQ(routed.bytes, routed.weights);
  EXPECT_EQ(routed.scale_bytes, 2 * 8 * 3 * 2 * 3 * 4);
  EXPECT_EQ(routed.bytes_by_format.at("fp8-e4m3-block"), routed.bytes);
  EXPECT_EQ(report.classes[static_cast<size_t>(TensorClass::kMtp)].tensors, 0);
  EXPECT_EQ(report.mtp_present, 1);
  EXPECT_GT(report.mtp_stored.tensors, 0);
}

TEST(Checkpoint, MixesFormatsTensorByTensor) {
  TestModel model = MakeTestModel({.dtype = "F8_E4M3"});
  const TestModel wide = MakeTestModel({.dtype = "F32"});
  model.Tensor(kUp3) = wide.Tensor(kUp3);
  model.Erase(std::string(kUp3) + "_scale_inv");
  const Opened opened(model, {});
  ASSERT_TRUE(opened.result.has_value()) << opened.result.error().message;
  EXPECT_EQ(opened.result->Find(kUp3Id)->format, WeightFormat::kF32);
  EXPECT_EQ(Read(*opened.result, *opened.result->Find(kUp3Id)), test::ValuesOf(wide, kUp3));
}

TEST(Checkpoint, TakesBf16Scales) {
  TestModel model = MakeTestModel({.dtype = "F8_E4M3"});
  TestTensor& scale = model.Tensor(std::string(kUp3) + "_scale_inv");
  const std::vector<float> full = test::ValuesOf(model, kUp3);
  std::string halves;
  for (size_t at = 0; at < scale.bytes.size(); at += 4) {
    scale.bytes[at] = scale.bytes[at + 1] = 0;  // exact in BF16
    halves += scale.bytes.substr(at + 2, 2);
  }
  const std::vector<float> want = test::ValuesOf(model, kUp3);
  scale.dtype = "BF16";
  scale.bytes = halves;
  const Opened opened(model, {});
  ASSERT_TRUE(opened.result.has_value()) << opened.result.error().message;
  EXPECT_EQ(Read(*opened.result, *opened.result->Find(kUp3Id)), want);
  EXPECT_NE(want, full);
}

TEST(Checkpoint, MtpIsRecognisedAndLoadedOnRequest) {
  const TestModel with = MakeTestModel({.mtp_layers = 1});
  const Opened ignored(with, {});
  ASSERT_TRUE(ignored.result.has_value()) << ignored.result.error().message;
  const WeightId projection = {WeightRole::kMtpProjection, LayerId{3}, {}};
  EXPECT_EQ(ignored.result->Find(projection), nullptr);
  EXPECT_EQ(ignored.result->shape().mtp_layers, 1);
  const Opened loaded(with, {.mtp = true});
  ASSERT_TRUE(loaded.result.has_value()) << loaded.result.error().message;
  EXPECT_NE(loaded.result->Find(projection), nullptr);
  EXPECT_NE(loaded.result->Find({WeightRole::kMtpEmbedding, LayerId{3}, {}}), nullptr);

  // The repeated embedding and head may be left out.
  TestModel lean = with;
  lean.Erase("model.layers.3.embed_tokens.weight");
  lean.Erase("model.layers.3.shared_head.head.weight");
  EXPECT_EQ(Refusal(lean, {.mtp = true}), "");
  lean.Erase("model.layers.3.hnorm.weight");
  EXPECT_EQ(Refusal(lean, {}), "");
  EXPECT_THAT(Refusal(lean, {.mtp = true}), HasSubstr("\"model.layers.3.hnorm.weight\" is missing"));

  // transformers declares a layer it does not save.
  TestModel declared = MakeTestModel();
  declared.config["num_nextn_predict_layers"] = 1;
  const Opened plain(declared, {});
  ASSERT_TRUE(plain.result.has_value()) << plain.result.error().message;
  EXPECT_EQ(plain.result->shape().mtp_layers, 0);
  EXPECT_EQ(plain.result->report().mtp_declared, 1);
  EXPECT_THAT(Refusal(declared, {.mtp = true}), HasSubstr("the shards hold none"));

  // And the other way round.
  TestModel undeclared = with;
  undeclared.config.erase("num_nextn_predict_layers");
  EXPECT_EQ(Refusal(undeclared, {.mtp = true}), "");
  undeclared.config["num_nextn_predict_layers"] = 2;
  EXPECT_THAT(Refusal(undeclared), HasSubstr("num_nextn_predict_layers is 2, but the shards hold 1"));
}

TEST(Checkpoint, TiedHeadsMayBeLeftOut) {
  TestModel model = MakeTestModel();
  model.config["tie_word_embeddings"] = true;
  const Opened both(model, {});
  ASSERT_TRUE(both.result.has_value()) << both.result.error().message;
  EXPECT_EQ(both.result->report().extras.size(), 1u);
  model.Erase("lm_head.weight");
  EXPECT_EQ(Refusal(model), "");
  model.config["tie_word_embeddings"] = false;
  EXPECT_THAT(Refusal(model), HasSubstr("\"lm_head.weight\" is missing"));
}

TEST(Checkpoint, CountsExtraTensors) {
  TestModel model = MakeTestModel();
  model.shards[0].push_back(
      {"model.layers.0.self_attn.rotary_emb.inv_freq", "F32", {4}, std::string(16, '\0')});
  model.shards[0].push_back({"vision.weight", "I64", {1}, std::string(8, '\0')});
  const Opened opened(model, {});
  ASSERT_TRUE(opened.result.has_value()) << opened.result.error().message;
  ASSERT_EQ(opened.result->report().extras.size(), 2u);
  EXPECT_EQ(opened.result->report().extras[1].name, "vision.weight");
}

TEST(Checkpoint, GenerationConfigsEosWins) {
  TestModel model = MakeTestModel();
  model.generation = {{"eos_token_id", {2, 3}}, {"temperature", 0.6}};
  const Opened opened(model, {});
  ASSERT_TRUE(opened.result.has_value());
  EXPECT_THAT(opened.result->shape().eos_tokens, ElementsAre(2, 3));
  EXPECT_FLOAT_EQ(opened.result->generation().temperature, 0.6f);
  model.generation = {{"temperature", 0.6}};
  EXPECT_THAT(Opened(model, {}).result->shape().eos_tokens, ElementsAre(1));
  model.generation = {{"eos_token_id", 50}};
  EXPECT_THAT(Refusal(model), HasSubstr("generation_config.json: eos_token_id holds 50"));
}

struct Spoiled {
  const char* fragment;
  TestModelOptions options;
  void (*spoil)(TestModel&);
};

TEST(Checkpoint, NamesWhatConfigAndWeightsDisagreeOn) {
  const Spoiled cases[] = {
      {"\"model.layers.1.mlp.experts.3.up_proj.weight\" is missing", {}, [](TestModel& m) { m.Erase(kUp3); }},
      {"and 47 more",
       {},
       [](TestModel& m) {
         for (auto& tensor : m.shards[0]) {
           if (tensor.name.find("experts.") != std::string::npos &&
               tensor.name.find("shared") == std::string::npos)
             tensor.name = "x." + tensor.name;
         }
       }},
      {"has shape [36, 40], config.json asks for [40, 40]",
       {},
       [](TestModel& m) { m.config["moe_intermediate_size"] = 20; }},
      {"has shape [50, 40], config.json asks for [50, 20]",
       {},
       [](TestModel& m) { m.config["hidden_size"] = 20; }},
      {"\"model.norm.weight\" has shape [1, 40], config.json asks for [40]",
       {},
       [](TestModel& m) {
         m.Tensor("model.norm.weight").shape = {1, 40};
       }},
      {"is of layer 2, but num_hidden_layers is 2",
       {},
       [](TestModel& m) { m.config["num_hidden_layers"] = 2; }},
      {"model.layers.3.input_layernorm.weight\" is missing",
       {},
       [](TestModel& m) { m.config["num_hidden_layers"] = 4; }},
      {"experts.7.down_proj.weight\" is there, but",
       {},
       [](TestModel& m) {
         m.config["n_routed_experts"] = 7;
         m.config["n_group"] = m.config["topk_group"] = 1;
         for (const int layer : {1, 2}) {
           auto& gate = m.Tensor("model.layers." + std::to_string(layer) + ".mlp.gate.weight");
           gate.shape[0] = 7;
           gate.bytes.resize(gate.bytes.size() / 8 * 7);
         }
       }},
      {"mlp.experts.0.down_proj.weight\" is there, but",
       {},
       [](TestModel& m) { m.config["first_k_dense_replace"] = 2; }},
      {"mlp.down_proj.weight\" is there, but",
       {},
       [](TestModel& m) { m.config["first_k_dense_replace"] = 0; }},
      {"shared_experts.down_proj.weight\" is there, but",
       {},
       [](TestModel& m) { m.config["n_shared_experts"] = nullptr; }},
      {"q_a_layernorm.weight\" is there, but", {}, [](TestModel& m) { m.config["q_lora_rank"] = nullptr; }},
      {"self_attn.o_proj.bias\" is there",
       {},
       [](TestModel& m) {
         m.shards[0].push_back({"model.layers.0.self_attn.o_proj.bias", "F32", {1}, "1234"});
       }},
      {"has no quantization_config.weight_block_size",
       {.dtype = "F8_E4M3"},
       [](TestModel& m) { m.config.erase("quantization_config"); }},
      {"_scale_inv\" is missing",
       {.dtype = "F8_E4M3"},
       [](TestModel& m) { m.Erase(std::string(kUp3) + "_scale_inv"); }},
      {"has shape [1, 3]; expected [2, 3]: one scale for each 16x16 block of [18, 40]",
       {.dtype = "F8_E4M3"},
       [](TestModel& m) {
         TestTensor& scale = m.Tensor(std::string(kUp3) + "_scale_inv");
         scale.shape = {1, 3};
         scale.bytes.resize(12);
       }},
      {"_scale_inv\" is I32; expected F32",
       {.dtype = "F8_E4M3"},
       [](TestModel& m) { m.Tensor(std::string(kUp3) + "_scale_inv").dtype = "I32"; }},
      {"which takes no block scales",
       {},
       [](TestModel& m) {
         m.shards[0].push_back({std::string(kUp3) + "_scale_inv", "F32", {2, 3}, std::string(24, '\0')});
       }},
      {"is there, but its weight is not", {.dtype = "F8_E4M3"}, [](TestModel& m) { m.Erase(kUp3); }},
      {"is F8_E5M2; expected F32, F16, BF16, or F8_E4M3",
       {.dtype = "F8_E4M3"},
       [](TestModel& m) { m.Tensor(kUp3).dtype = "F8_E5M2"; }},
      {"is I16; expected F32, F16, BF16", {}, [](TestModel& m) { m.Tensor(kUp3).dtype = "I16"; }},
      {"\"model.norm.weight\" is U16; expected F32, F16 or BF16",
       {},
       [](TestModel& m) { m.Tensor("model.norm.weight").dtype = "U16"; }},
  };
  for (const Spoiled& c : cases) {
    TestModel model = MakeTestModel(c.options);
    c.spoil(model);
    EXPECT_THAT(Refusal(model), HasSubstr(c.fragment));
  }
}

TEST(CheckValues, NamesTheFirstValueThatIsNone) {
  const auto spoil = [](const char* dtype, const std::string& name, size_t index, auto word) {
    TestModel model = MakeTestModel({.dtype = dtype, .shards = 2});
    std::memcpy(model.Tensor(name).bytes.data() + index * sizeof word, &word, sizeof word);
    const Opened opened(model, {});
    EXPECT_TRUE(opened.result.has_value());
    const Status status = CheckValues(*opened.result);
    EXPECT_FALSE(status.has_value()) << name;
    return status.has_value() ? "" : status.error().message;
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_THAT(spoil("F32", kUp3, 41, nan), AllOf(HasSubstr(kUp3), HasSubstr("is NaN at [1, 1]")));
  EXPECT_THAT(spoil("F32", kUp3, 0, -infinity), HasSubstr("is infinite at [0, 0]"));
  EXPECT_THAT(spoil("BF16", kUp3, 719, uint16_t{0xFF80}), HasSubstr("is infinite at [17, 39]"));
  EXPECT_THAT(spoil("BF16", "model.norm.weight", 39, uint16_t{0x7FC0}), HasSubstr("is NaN at [39]"));
  EXPECT_THAT(spoil("F16", kUp3, 5, uint16_t{0x7C01}), HasSubstr("is NaN at [0, 5]"));
  EXPECT_THAT(spoil("F8_E4M3", kUp3, 80, uint8_t{0xFF}), HasSubstr("is NaN at [2, 0]"));
  EXPECT_THAT(spoil("F8_E4M3", std::string(kUp3) + "_scale_inv", 4, infinity),
              AllOf(HasSubstr("_scale_inv"), HasSubstr("is infinite at [1, 1]")));
}

}  // namespace
}  // namespace moraine
