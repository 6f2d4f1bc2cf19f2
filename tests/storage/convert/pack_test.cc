// storage/convert/pack.h: what is written can be read, agrees with compressed-tensors, and is whole or not
// there.
#include "storage/convert/pack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include "storage/checkpoint.h"
#include "storage/hf_names.h"
#include "tests/support/golden.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_model.h"

namespace moraine {
namespace {

namespace fs = std::filesystem;
using test::Golden;
using test::MakeTestModel;
using test::ReadFile;
using test::TempFolder;
using test::TestModel;
using ::testing::HasSubstr;

const std::string kV3Fp8 = MORAINE_SOURCE_DIR "/tests/goldens/v3-fp8";

Result<PackReport> PackTo(const std::string& model, const std::string& out, const char* format) {
  return Pack(model, out, *ParseExpertFormat(format), {});
}

std::vector<float> Read(const Checkpoint& checkpoint, const StoredTensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.values()));
  EXPECT_TRUE(checkpoint.ReadF32(tensor, values).has_value());
  return values;
}

bool IsExpert(const StoredTensor& tensor) { return tensor.id.expert.value >= 0; }

// tools/oracle/pack_golden.py: the compressed-tensors package on the same output, under the same config.json.
TEST(Pack, AgreesWithCompressedTensors) {
  const Golden golden("pack-v3-fp8");
  for (const char* format : {"int4-g32", "int8-row"}) {
    const TempFolder folder;
    const auto report = PackTo(kV3Fp8, folder / "out", format);
    ASSERT_TRUE(report.has_value()) << report.error().message;
    const auto checkpoint = Checkpoint::Open(folder / "out");
    ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
    int compared = 0;
    for (const StoredTensor& tensor : checkpoint->tensors()) {
      const std::string name = std::string(format) + '/' + checkpoint->NameOf(tensor.id);
      if (!golden.Has(name)) continue;
      EXPECT_EQ(Read(*checkpoint, tensor), golden.Floats(name)) << name;
      ++compared;
    }
    EXPECT_EQ(compared, 7);
  }
}

TEST(Pack, ConvertsExpertsAndNothingElse) {
  const auto source = Checkpoint::Open(kV3Fp8);
  ASSERT_TRUE(source.has_value());
  for (const char* format : {"int4-g128", "int4-g32", "int8-row", "bf16", "f16", "f32"}) {
    const TempFolder folder;
    ASSERT_TRUE(PackTo(kV3Fp8, folder / "out", format).has_value());
    const auto packed = Checkpoint::Open(folder / "out");
    ASSERT_TRUE(packed.has_value()) << packed.error().message;
    EXPECT_TRUE(packed->report().extras.empty());
    ASSERT_EQ(packed->tensors().size(), source->tensors().size());
    for (const StoredTensor& tensor : packed->tensors()) {
      const std::vector<float> after = Read(*packed, tensor);
      const std::vector<float> before = Read(*source, *source->Find(tensor.id));
      if (!IsExpert(tensor) || std::string_view(format) == "f32") {
        EXPECT_EQ(after, before) << packed->NameOf(tensor.id);
        continue;
      }
      // Experts have 256 columns in, 20 out: rows of 20 are shorter than a group.
      const std::string name = FormatName(tensor);
      const bool down = tensor.id.role == WeightRole::kExpertDown;
      EXPECT_EQ(name, down && format[3] == '4' ? "int4-row" : format);
      double error = 0;
      double norm = 0;
      for (size_t i = 0; i < after.size(); ++i) {
        error += std::pow(static_cast<double>(after[i]) - static_cast<double>(before[i]), 2);
        norm += std::pow(static_cast<double>(before[i]), 2);
      }
      EXPECT_LE(std::sqrt(error / norm), format[3] == '4' ? 0.16 : 0.012) << name;
      EXPECT_GT(error, format[0] == 'i' ? 0 : -1);
    }
    EXPECT_EQ(ReadFile(folder / "out/generation_config.json"), ReadFile(kV3Fp8 + "/generation_config.json"));
  }
}

TEST(Pack, ConvertsMtpExpertsAndCopiesOtherFilesAndExtras) {
  TestModel model = MakeTestModel({.mtp_layers = 1, .shards = 2});
  model.shards[1].push_back({"vision.weight", "I64", {1}, "12345678"});
  const TempFolder folder;
  fs::create_directory(folder / "in");
  model.Write(folder / "in");
  test::WriteFile(folder / "in/tokenizer.json", "{}");
  test::WriteFile(folder / "in/pytorch_model.bin", "weights in another format");
  const auto report = PackTo(folder / "in", folder / "out", "int8-row");
  ASSERT_TRUE(report.has_value()) << report.error().message;
  EXPECT_EQ(report->experts, 3 * 8 * 3);
  EXPECT_LT(report->bytes_after, report->bytes_before);
  const auto packed = Checkpoint::Open(folder / "out", {.mtp = true});
  ASSERT_TRUE(packed.has_value()) << packed.error().message;
  EXPECT_EQ(packed->report().stored_bytes, report->bytes_after);
  EXPECT_EQ(FormatName(*packed->Find({WeightRole::kExpertUp, LayerId{3}, ExpertId{7}})), "int8-row");
  ASSERT_EQ(packed->report().extras.size(), 1u);
  EXPECT_EQ(ReadFile(folder / "out/tokenizer.json"), "{}");
  EXPECT_FALSE(fs::exists(folder / "out/pytorch_model.bin"));
}

TEST(Pack, RefusesWhatItCannotDoAndLeavesNothing) {
  const TempFolder folder;
  const auto refusal = [&](const std::string& model, const char* format) {
    const auto report = PackTo(model, folder / "out", format);
    EXPECT_FALSE(report.has_value());
    EXPECT_FALSE(fs::exists(folder / "out"));
    return report.has_value() ? "" : report.error().message;
  };
  fs::create_directory(folder / "in");
  TestModel model = MakeTestModel();
  model.Write(folder / "in");  // 40 columns
  EXPECT_THAT(refusal(folder / "in", "int4-g32"), HasSubstr("groups of 32 do not divide the 40 columns of"));
  EXPECT_THAT(refusal(folder / "nowhere", "int8-row"), HasSubstr("nowhere"));
  MakeTestModel({.dtype = "INT4"}).Write(folder / "in");
  EXPECT_THAT(refusal(folder / "in", "int8-row"), HasSubstr("integers already"));
  model = MakeTestModel({.dtype = "F32"});
  const float nan = std::nanf("");
  std::memcpy(model.Tensor("model.layers.2.mlp.experts.5.down_proj.weight").bytes.data() + 4 * 18, &nan, 4);
  model.Write(folder / "in");
  EXPECT_THAT(refusal(folder / "in", "int8-row"),
              HasSubstr("experts.5.down_proj.weight\" has a value in row 1"));
  EXPECT_THAT(refusal(folder / "in", "bf16"), HasSubstr("experts.5.down_proj.weight\" has a value in row 1"));
}

TEST(Pack, NeverOverwritesAndCleansUpWhenStopped) {
  const TempFolder folder;
  fs::create_directory(folder / "out");
  test::WriteFile(folder / "out/mine", "precious");
  const auto full = PackTo(kV3Fp8, folder / "out", "int8-row");
  ASSERT_FALSE(full.has_value());
  EXPECT_EQ(full.error().kind, ErrorKind::kUsage);
  EXPECT_EQ(ReadFile(folder / "out/mine"), "precious");
  fs::remove(folder / "out/mine");
  int calls = 0;
  const auto stopped =
      Pack(kV3Fp8, folder / "out", *ParseExpertFormat("int8-row"), [&](int64_t done, int64_t total) {
        EXPECT_LE(done, total);
        EXPECT_FALSE(fs::exists(folder / "out/config.json"));
        return ++calls < 20;
      });
  ASSERT_FALSE(stopped.has_value());
  EXPECT_EQ(stopped.error().kind, ErrorKind::kInterrupted);
  EXPECT_TRUE(fs::is_empty(folder / "out"));  // it was there before, so it stays
  EXPECT_TRUE(PackTo(kV3Fp8, folder / "out", "int8-row").has_value());
}

TEST(ParseExpertFormat, ListsTheFormats) {
  EXPECT_EQ(ParseExpertFormat("int4-g64")->group, 64);
  const auto bad = ParseExpertFormat("int5-g64");
  ASSERT_FALSE(bad.has_value());
  EXPECT_EQ(bad.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(bad.error().message, HasSubstr("int8-g128, "));
}

}  // namespace
}  // namespace moraine
