// storage/convert/synth.h: geometry, determinism, statistics; R1's full size over holes.
#include "storage/convert/synth.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "storage/checkpoint.h"
#include "storage/convert/known_shapes.h"
#include "storage/convert/random_weights.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_model.h"

namespace moraine {
namespace {

namespace fs = std::filesystem;
using test::MakeTestModel;
using test::ReadFile;
using test::TempFolder;
using ::testing::HasSubstr;

// R1's form with few columns: all sizes multiples of 64.
std::string SmallConfig() {
  auto config = MakeTestModel().config;
  config["hidden_size"] = 256;
  config["moe_intermediate_size"] = 128;
  config["intermediate_size"] = 320;
  config["num_nextn_predict_layers"] = 1;
  return config.dump();
}

SynthOptions Small(const char* format) {
  return {.config_text = SmallConfig(), .layers = 3, .format = format};
}

Checkpoint OpenOrDie(const std::string& folder) {
  auto checkpoint = Checkpoint::Open(folder);
  if (!checkpoint.has_value()) {
    fmt::print(stderr, "{}\n", checkpoint.error().message);
    std::abort();
  }
  return *std::move(checkpoint);
}

std::vector<float> Read(const Checkpoint& checkpoint, const WeightId& id) {
  const StoredTensor* tensor = checkpoint.Find(id);
  std::vector<float> values(static_cast<size_t>(tensor->values()));
  EXPECT_TRUE(checkpoint.ReadF32(*tensor, values).has_value());
  return values;
}

double Deviation(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(sum / static_cast<double>(values.size()));
}

constexpr WeightId kUp = {WeightRole::kExpertUp, LayerId{2}, ExpertId{7}};

TEST(Synth, WritesEveryFormatWithWeightsThatKeepTheVariance) {
  const std::pair<const char*, const char*> formats[] = {{"fp8", "fp8-e4m3-block"},
                                                         {"bf16", "bf16"},
                                                         {"int8-g128", "int8-g128"},
                                                         {"int4-g64", "int4-g64"},
                                                         {"int8-row", "int8-row"}};
  for (const auto& [format, name] : formats) {
    const TempFolder folder;
    const Status status = Synthesise(Small(format), folder.path(), {});
    ASSERT_TRUE(status.has_value()) << status.error().message;
    const Checkpoint checkpoint = OpenOrDie(folder.path());
    EXPECT_TRUE(CheckValues(checkpoint).has_value());
    EXPECT_TRUE(checkpoint.report().extras.empty());
    EXPECT_EQ(checkpoint.shape().layers, 3);
    EXPECT_EQ(checkpoint.shape().dense_layers, 1);
    EXPECT_EQ(checkpoint.report().mtp_present, 0);
    EXPECT_FALSE(checkpoint.shape().sparse);
    EXPECT_EQ(FormatName(*checkpoint.Find(kUp)), name);
    // Outputs of an input of ones: 1 / sqrt(columns) each.
    EXPECT_NEAR(Deviation(Read(checkpoint, kUp)) * std::sqrt(256), 1, 0.06) << format;
    const WeightId down = {WeightRole::kExpertDown, LayerId{1}, ExpertId{0}};
    EXPECT_NEAR(Deviation(Read(checkpoint, down)) * std::sqrt(128), 1.2, 0.08) << format;
    const std::string attention = FormatName(*checkpoint.Find({WeightRole::kO, LayerId{0}, {}}));
    EXPECT_EQ(attention, format == std::string("fp8") ? "fp8-e4m3-block" : "bf16");
  }
}

TEST(Synth, FillsTheRangeOfFp8) {
  const TempFolder folder;
  ASSERT_TRUE(Synthesise(Small("fp8"), folder.path(), {}).has_value());
  const Checkpoint checkpoint = OpenOrDie(folder.path());
  const StoredTensor& up = *checkpoint.Find(kUp);  // [128, 256]: two blocks
  std::vector<std::byte> bytes(static_cast<size_t>(up.range.bytes));
  ASSERT_TRUE(checkpoint.ReadBytes(up.range, bytes).has_value());
  int subnormal = 0;
  std::array<float, 2> largest{};
  for (size_t i = 0; i < bytes.size(); ++i) {
    const float value = std::fabs(Fp8E4M3ToF32(static_cast<uint8_t>(bytes[i])));
    largest[i % 256 / 128] = std::max(largest[i % 256 / 128], value);
    subnormal += value != 0 && value < 0x1p-6f ? 1 : 0;
  }
  for (const float value : largest) EXPECT_GE(value, 352.f);
  EXPECT_EQ(subnormal, 0);
}

TEST(Synth, IsTheSameForASeedAndAnotherForAnother) {
  const TempFolder a;
  const TempFolder b;
  const TempFolder c;
  SynthOptions options = Small("int4-g64");
  ASSERT_TRUE(Synthesise(options, a.path(), {}).has_value());
  ASSERT_TRUE(Synthesise(options, b.path(), {}).has_value());
  EXPECT_EQ(ReadFile(a / "model.safetensors"), ReadFile(b / "model.safetensors"));
  options.seed = 2;
  ASSERT_TRUE(Synthesise(options, c.path(), {}).has_value());
  EXPECT_NE(ReadFile(a / "model.safetensors"), ReadFile(c / "model.safetensors"));
  const Checkpoint checkpoint = OpenOrDie(a.path());
  WeightId other = kUp;
  other.expert = ExpertId{6};
  EXPECT_NE(Read(checkpoint, kUp), Read(checkpoint, other));
}

TEST(Synth, SkewIsTheDeviationOfTheBias) {
  auto config = nlohmann::json::parse(SmallConfig());
  config["n_routed_experts"] = 256;
  for (const double skew : {0.0, 0.2}) {
    const TempFolder folder;
    SynthOptions options = Small("int4-g64");
    options.config_text = config.dump();
    options.skew = skew;
    ASSERT_TRUE(Synthesise(options, folder.path(), {}).has_value());
    const std::vector<float> bias = Read(OpenOrDie(folder.path()), {WeightRole::kRouterBias, LayerId{1}, {}});
    EXPECT_NEAR(Deviation(bias), skew, 0.2 * skew);
  }
}

TEST(Synth, AnyPartOfATensorIsMadeAlone) {
  const CodeTable table = MakeTable([](float d) { return static_cast<uint32_t>(d + 510) & 0xF; });
  for (const int bits : {4, 8, 16, 32}) {
    std::vector<std::byte> whole(4096);
    FillCodes(5, table, bits, 0, whole);
    std::vector<std::byte> part(1000);
    FillCodes(5, table, bits, 1024, part);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 1024)) << bits;
    FillCodes(6, table, bits, 1024, part);
    EXPECT_FALSE(std::equal(part.begin(), part.end(), whole.begin() + 1024)) << bits;
  }
}

TEST(Synth, RefusesWhatCannotBe) {
  const TempFolder folder;
  const auto refusal = [&](const SynthOptions& options, ErrorKind kind) {
    const Status status = Synthesise(options, folder / "out", {});
    EXPECT_FALSE(status.has_value());
    if (status.has_value()) return std::string();
    EXPECT_EQ(status.error().kind, kind) << status.error().message;
    EXPECT_FALSE(fs::exists(folder / "out"));
    return status.error().message;
  };
  SynthOptions options = Small("int4-g128");
  options.layers = -1;
  EXPECT_THAT(refusal(options, ErrorKind::kUsage), HasSubstr("layers is -1"));
  options.layers = 2;
  options.skew = -1;
  EXPECT_THAT(refusal(options, ErrorKind::kUsage), HasSubstr("skew is -1"));
  options.skew = 0;
  options.format = "int5";
  EXPECT_THAT(refusal(options, ErrorKind::kUsage), HasSubstr("\"int5\" is unknown"));
  options.format = "f16";
  EXPECT_THAT(refusal(options, ErrorKind::kUsage), HasSubstr("cannot be made up"));
  options.format = "fp8";
  options.config_text = "{";
  EXPECT_THAT(refusal(options, ErrorKind::kModel), HasSubstr("config.json"));
  options.config_text = "{}";
  EXPECT_THAT(refusal(options, ErrorKind::kModel), HasSubstr("architectures is missing"));
  options.config_text = FindKnownModel("v2-lite")->config;
  options.skew = 0.1;
  EXPECT_THAT(refusal(options, ErrorKind::kUsage), HasSubstr("does not have"));
  options = {.config_text = FindKnownModel("deepseek-r1")->config};
  if (fs::space(folder.path()).available < 600'000'000'000) {  // of the 688 it would take
    EXPECT_THAT(refusal(options, ErrorKind::kDoesNotFit), HasSubstr("short"));
  }
  EXPECT_FALSE(FindKnownModel("deepseek-r9").has_value());
}

TEST(Synth, RemovesWhatItWroteWhenStopped) {
  const TempFolder folder;
  const Status status =
      Synthesise(Small("bf16"), folder / "out", [](int64_t done, int64_t total) { return done < total / 2; });
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kInterrupted);
  EXPECT_FALSE(fs::exists(folder / "out"));
}

// A folder of DeepSeek-R1's size made of holes: 91,991 tensors, 688 GB that take no disk.
TEST(Synth, SparseR1OpensAndHasThePublishedNumbers) {
  const TempFolder folder;
  const Status status =
      Synthesise({.config_text = FindKnownModel("deepseek-r1")->config, .sparse = true}, folder.path(), {});
  ASSERT_TRUE(status.has_value()) << status.error().message;
  const std::clock_t begin = std::clock();
  const auto checkpoint = Checkpoint::Open(folder.path(), {.mtp = true});
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  ASSERT_TRUE(checkpoint.has_value()) << checkpoint.error().message;
  fmt::print("opened {} shards in {:.2f} s of processor time\n", checkpoint->shards().size(), seconds);
  EXPECT_TRUE(checkpoint->shape().sparse);
  EXPECT_EQ(checkpoint->report().stored_tensors, 91991);
  EXPECT_TRUE(checkpoint->report().extras.empty());
  int64_t weights = 0;
  for (const ClassSum& sum : checkpoint->report().classes) weights += sum.weights;
  EXPECT_NEAR(static_cast<double>(weights) / 1e9, 684.5, 0.05);
  const StoredTensor* up = checkpoint->Find({WeightRole::kExpertUp, LayerId{60}, ExpertId{255}});
  ASSERT_NE(up, nullptr);
  EXPECT_EQ(up->range.bytes, 2048 * 7168);
  EXPECT_EQ(up->scales->rows, 16);
  EXPECT_EQ(up->scales->columns, 56);
  for (const File& shard : checkpoint->shards()) EXPECT_LE(shard.bytes(), (int64_t{4} << 30) + (1 << 20));
}

TEST(Synth, SparseIntegersKeepTheirShapes) {
  const TempFolder folder;
  SynthOptions options{
      .config_text = FindKnownModel("moonlight")->config, .layers = 4, .format = "int4-g128", .sparse = true};
  ASSERT_TRUE(Synthesise(options, folder.path(), {}).has_value());
  const Checkpoint checkpoint = OpenOrDie(folder.path());
  EXPECT_EQ(FormatName(*checkpoint.Find({WeightRole::kExpertDown, LayerId{3}, ExpertId{63}})), "int4-g128");
}

}  // namespace
}  // namespace moraine
