// moraine inspect: what it prints of good folders, R1's own numbers among them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/support/moraine_process.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_model.h"

namespace moraine::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

nlohmann::json InspectJson(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"inspect", "--json"});
  const ProcessResult result = RunMoraine(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 1);
  return nlohmann::json::parse(result.out, nullptr, false);
}

TEST(Inspect, PrintsR1sNumbers) {
  const TempFolder folder;
  const ProcessResult synth = RunMoraine({"synth", "deepseek-r1", folder.path(), "--sparse"});
  ASSERT_EQ(synth.exit_code, 0) << synth.err;
  const nlohmann::json json = InspectJson({folder.path()});
  EXPECT_EQ(json["schema"], 1);
  EXPECT_EQ(json["routed_experts"], 14848);
  EXPECT_EQ(json["experts_per_token"], 464);
  EXPECT_EQ(json["expert_weights"], 44040192);
  EXPECT_EQ(json["expert_bytes"], 44040192);
  EXPECT_EQ(json["expert_scale_bytes"], 3 * 16 * 56 * 4);
  EXPECT_EQ(json["routed_bytes_per_token"], int64_t{464} * 44040192);
  EXPECT_EQ(json["kv_bytes_per_token"], 70272);
  EXPECT_NEAR(json["model"]["parameters"].get<double>(), 671.0e9, 0.05e9);
  EXPECT_EQ(json["routed_scale_bytes_per_token"], int64_t{464} * 3 * 16 * 56 * 4);
  EXPECT_EQ(json["model"]["shards"], 162);
  EXPECT_EQ(json["model"]["sparse"], true);
  EXPECT_EQ(json["shape"]["layers"], 61);
  EXPECT_EQ(json["router"]["kept_groups"], 4);
  EXPECT_EQ(json["rope"]["yarn"]["original_context"], 4096);
  EXPECT_EQ(json["classes"]["routed"]["formats"]["fp8-e4m3-block"], int64_t{14848} * 44040192);
  EXPECT_EQ(json["classes"]["mtp"]["tensors"], 0);
  EXPECT_EQ(json["mtp"]["present"], 1);
  EXPECT_EQ(json["generation"]["temperature"], 0.6);
  EXPECT_TRUE(json["extra"].empty());

  const ProcessResult text = RunMoraine({"inspect", folder.path()});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, AllOf(HasSubstr("671.0 B parameters"), HasSubstr("44.04 M weights, 44.04 MB"),
                              HasSubstr("14,848 of them"),
                              HasSubstr("runs 464 experts: reads 20.4 GB + 4.99 MB of scales"),
                              HasSubstr("sparse: holes in place of weights"), HasSubstr("70,272 B a token"),
                              HasSubstr("best 4 of 8 groups"), HasSubstr("YaRN x 40 from 4096")));

  const nlohmann::json with_mtp = InspectJson({"--mtp", folder.path()});
  EXPECT_NEAR(with_mtp["classes"]["mtp"]["weights"].get<double>(), 13.5e9, 0.1e9);
}

TEST(Inspect, ListsTensorsAndChecksValuesWhenAsked) {
  const TempFolder folder;
  MakeTestModel({.dtype = "F8_E4M3", .mtp_layers = 1, .shards = 2}).Write(folder.path());
  const ProcessResult text = RunMoraine({"inspect", folder.path(), "--tensors", "--check-tensors"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out,
              AllOf(HasSubstr("all finite"), HasSubstr("experts.7.down_proj.weight fp8-e4m3-block [40, 18]"),
                    HasSubstr("1 layer(s) stored")));
  const nlohmann::json json = InspectJson({folder.path(), "--tensors", "--mtp", "--check-tensors"});
  EXPECT_EQ(json["values_checked"], true);
  EXPECT_EQ(json["mtp"]["loaded"], true);
  EXPECT_EQ(json["tensors"].size(), 4 * 9 + 3 + 3 * 29 + 6 + 3);
  EXPECT_EQ(json["shape"]["fp8_block"], nlohmann::json({16, 16}));
}

TEST(Inspect, ShowsGroupsAndScaleBytesOfIntegers) {
  const TempFolder folder;
  MakeTestModel({.dtype = "INT4", .zeros = true}).Write(folder.path());
  const nlohmann::json json = InspectJson({folder.path(), "--tensors"});
  EXPECT_EQ(json["shape"]["integer"],
            nlohmann::json::parse(R"([{"bits": 4, "group": 2, "symmetric": false}])"));
  EXPECT_EQ(json["classes"]["routed"]["formats"]["int4-g2-zeros"], json["classes"]["routed"]["bytes"]);
  // Of one expert: see IntegerCheckpoint.NamesFormatsAndSumsTheirBytes.
  EXPECT_EQ(json["expert_bytes"], 4 * (2 * 18 * 5 + 40 * 3));
  EXPECT_EQ(json["expert_scale_bytes"], 2 * (18 * 20 * 2 + 3 * 20 * 4) + 40 * 9 * 2 + 5 * 9 * 4);
  EXPECT_EQ(json["routed_scale_bytes_per_token"], 2 * 2 * json["expert_scale_bytes"].get<int>());
  EXPECT_EQ(RunMoraine({"inspect", folder.path(), "--check-tensors"}).exit_code, 0);
}

TEST(Inspect, HelpFitsAScreen) {
  const ProcessResult help = RunMoraine({"inspect", "--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_LE(std::count(help.out.begin(), help.out.end(), '\n'), 24);
  EXPECT_THAT(help.out, HasSubstr("--check-tensors"));
}

TEST(Inspect, RefusesWrongUsage) {
  EXPECT_EQ(RunMoraine({"inspect"}).exit_code, 2);
  EXPECT_EQ(RunMoraine({"inspect", "--no-such-flag", "x"}).exit_code, 2);
}

}  // namespace
}  // namespace moraine::test
