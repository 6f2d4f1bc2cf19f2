// moraine fitcheck as a user meets it: the published numbers of R1, forms that agree with one another, exit
// codes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/moraine_process.h"
#include "tests/support/temp_folder.h"

namespace moraine::test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

const std::string kTiny = MORAINE_SOURCE_DIR "/models/tiny-r1";

json Ask(std::vector<std::string> arguments, int exit_code = 0) {
  arguments.insert(arguments.begin(), "fitcheck");
  arguments.push_back("--json");
  const ProcessResult result = RunMoraine(arguments);
  EXPECT_EQ(result.exit_code, exit_code) << result.err;
  return json::parse(result.out, nullptr, false);
}

int64_t Class(const json& plan, const std::string& tier, const std::string& name) {
  for (const json& t : plan["tiers"]) {
    if (t["name"] == tier) return t["classes"].value(name, int64_t{-1});
  }
  return -1;
}

TEST(FitCheck, R1sNumbersAreThePublishedOnes) {
  const json r1 = Ask({"deepseek-r1", "--ram", "64GiB"});
  EXPECT_EQ(r1["fits"], true);
  EXPECT_EQ(r1["kv_bytes_per_token"], 70272);
  EXPECT_EQ(r1["routed_experts"], 14848);
  EXPECT_EQ(r1["experts_per_token"], 464);
  // gate, up and down of 7168 x 2048 at a byte each, and 3 x 16 x 56 scales of four.
  EXPECT_EQ(r1["expert_bytes"], 3 * 7168 * 2048 + 4 * 3 * 16 * 56);
  EXPECT_NEAR(r1["demand"]["routed_bytes"].get<double>(), 20.44e9, 0.01e9);
  EXPECT_EQ(r1["context"]["model"], 163840);
  // 17 B weights beside the experts, less the embedding, the head in BF16.
  EXPECT_NEAR(r1["demand"]["other_bytes"].get<double>(), 17.2e9, 0.3e9);
  int64_t sum = 0;
  for (const auto& [name, bytes] : r1["tiers"][0]["classes"].items()) sum += bytes.get<int64_t>();
  EXPECT_EQ(sum, r1["tiers"][0]["used"]);
  EXPECT_LE(sum, int64_t{64} << 30);
}

TEST(FitCheck, AFullContextTakesElevenAndAHalfGigabytes) {
  const json r1 = Ask({"deepseek-r1", "--ram", "64GiB", "--ctx", "163840"});
  EXPECT_EQ(Class(r1, "ram", "kv"), int64_t{163840} * 70272);
}

TEST(FitCheck, WhatDoesNotFitIsOneAndSaysHowMuchIsShort) {
  const json r1 = Ask({"deepseek-r1", "--ram", "8GiB"}, 1);
  EXPECT_EQ(r1["fits"], false);
  EXPECT_THAT(r1["refusal"].get<std::string>(), HasSubstr("short by"));
  EXPECT_EQ(r1["context"]["largest"], 0);
  EXPECT_FALSE(r1.contains("decode"));
  EXPECT_TRUE(r1["next"][0]["fits"]) << "64 GiB more would do";
  const ProcessResult text = RunMoraine({"fitcheck", "deepseek-r1", "--ram", "8GiB"});
  EXPECT_EQ(text.exit_code, 1);
  EXPECT_THAT(text.out, HasSubstr("short by"));
}

TEST(FitCheck, MoreMemoryIsNeverSlower) {
  double before = 0;
  for (const char* ram : {"24GiB", "48GiB", "128GiB", "400GiB", "800GiB"}) {
    const json r1 = Ask({"deepseek-r1", "--ram", ram});
    const double speed = r1["decode"]["tok_s"];
    EXPECT_GE(speed, before) << ram;
    before = speed;
  }
}

TEST(FitCheck, AFolderAndItsPolicyGiveTheSamePlan) {
  const TempFolder folder;
  const std::string policy = folder / "plan.toml";
  const json first =
      Ask({kTiny, "--ram", "96MiB", "--ctx", "512", "--set", "cache.slots=40", "--emit-policy", policy});
  EXPECT_EQ(first["slots"], json::array({40}));
  const json again = Ask({kTiny, "--policy", policy});
  for (const char* key : {"slots", "kv_bytes_per_token", "expert_bytes"}) EXPECT_EQ(first[key], again[key]);
  EXPECT_EQ(first["context"]["tokens"], again["context"]["tokens"]);
  EXPECT_EQ(Class(first, "ram", "routed (slots)"), Class(again, "ram", "routed (slots)"));
  EXPECT_EQ(RunMoraine({"policy", "check", policy}).exit_code, 0);
}

TEST(FitCheck, ThePlanIsTheOneThatRuns) {
  const std::vector<std::string> options = {"--ram", "100MiB", "--ctx", "512", "--set", "cache.slots=40"};
  std::vector<std::string> ask = {kTiny};
  ask.insert(ask.end(), options.begin(), options.end());
  const json plan = Ask(ask);
  ask.insert(ask.begin(), "bench");
  ask.insert(ask.end(), {"--prompt-tokens", "8", "--tokens", "8", "--json"});
  const ProcessResult run = RunMoraine(ask);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const json ran = json::parse(run.out, nullptr, false)["plan"];
  for (const auto& [name, bytes] : plan["tiers"][0]["classes"].items()) {
    // What the process holds already is not a part of the model: bench has its yardsticks.
    if (name == "process") continue;
    EXPECT_EQ(bytes, ran["tiers"][0]["classes"][name]) << name;
  }
  EXPECT_EQ(plan["slots"], ran["slots"]);
}

TEST(FitCheck, AConfigAloneIsEnough) {
  const TempFolder folder;
  std::ifstream config(kTiny + "/config.json");
  WriteFile(folder / "config.json", std::string(std::istreambuf_iterator<char>(config), {}));
  const json bare = Ask({folder / "config.json"});
  EXPECT_EQ(bare["origin"], "config.json");
  EXPECT_EQ(bare["routed_experts"], 96);
  EXPECT_EQ(Ask({folder.path()})["routed_experts"], 96);
  EXPECT_EQ(Ask({folder / "config.json", "--format", "int4-g64"})["fits"], true);
}

TEST(FitCheck, ComparesWithPublicCalculators) {
  const json r1 = Ask({"deepseek-r1", "--ram", "64GiB", "--compare"});
  const json& rows = r1["compare"]["calculators"];
  EXPECT_NEAR(rows[0]["theirs"].get<double>(), 1610e9, 1e9);
  EXPECT_NEAR(rows[3]["theirs"].get<double>(), 404.6e9, 1e9);
  for (const json& row : rows) EXPECT_FALSE(row["reason"].get<std::string>().empty());
  for (const json& other : r1["compare"]["others"]) EXPECT_EQ(other["holds"], false) << other;
}

TEST(FitCheck, RequirementsDecideTheExitCode) {
  EXPECT_EQ(RunMoraine({"fitcheck", kTiny, "--require", "decode>=1"}).exit_code, 0);
  EXPECT_EQ(RunMoraine({"fitcheck", kTiny, "--require", "decode>=1e9"}).exit_code, 1);
  EXPECT_EQ(RunMoraine({"fitcheck", kTiny, "--require", "first-token<=1e9", "--require", "context>=4096"})
                .exit_code,
            0);
  EXPECT_EQ(RunMoraine({"fitcheck", kTiny, "--require", "speed>5"}).exit_code, 2);
}

TEST(FitCheck, TextFitsAHundredColumns) {
  for (const std::vector<std::string>& more : {std::vector<std::string>{}, {"--explain", "--compare"}}) {
    std::vector<std::string> arguments = {"fitcheck", "deepseek-r1", "--ram", "64GiB"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    std::istringstream text(RunMoraine(arguments).out);
    for (std::string line; std::getline(text, line);) EXPECT_LE(line.size(), 100u) << line;
  }
}

TEST(FitCheck, ThePageNeedsNothingElse) {
  const TempFolder folder;
  const std::string page = folder / "page.html";
  Ask({"deepseek-r1", "--ram", "64GiB", "--html", page});
  const std::string html = ReadFile(page);
  EXPECT_THAT(html, HasSubstr("<svg"));
  for (const char* link : {"<script", "src=", "@import", "url("})
    EXPECT_EQ(html.find(link), html.npos) << link;
}

TEST(FitCheck, BadInputIsRefusedByName) {
  const ProcessResult unknown = RunMoraine({"fitcheck", "gpt-17"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("kimi-k2"));
  EXPECT_EQ(RunMoraine({"fitcheck"}).exit_code, 2);
  EXPECT_EQ(RunMoraine({"fitcheck", kTiny, "--curve", "nope"}).exit_code, 2);
  EXPECT_EQ(RunMoraine({"fitcheck", kTiny, "--format", "fp8"}).exit_code, 2);
  EXPECT_EQ(RunMoraine({"fitcheck", kTiny, "--html", "/nowhere/page.html"}).exit_code, 5);
  const TempFolder folder;
  WriteFile(folder / "config.json", "{\"architectures\": [\"DeepseekV3ForCausalLM\"]}");
  EXPECT_EQ(RunMoraine({"fitcheck", folder / "config.json"}).exit_code, 3);
}

TEST(FitCheck, HistoryShowsWhatRunsCameTo) {
  const TempFolder state;
  ProcessOptions keep;
  keep.constrain = [&]() -> bool { return ::setenv("XDG_STATE_HOME", state.path().c_str(), 1) == 0; };
  EXPECT_EQ(RunMoraine({"fitcheck", "--history"}, keep).exit_code, 5) << "nothing has run";
  ASSERT_EQ(
      RunMoraine({"run", kTiny, "--prompt-ids", "5,17,3", "--greedy", "--ignore-eos", "--max-tokens", "12"},
                 keep)
          .exit_code,
      0);
  {
    std::ofstream more(state / "moraine/history.jsonl", std::ios::app);
    more << "not ours\n{\"schema\":1,\"date\":5}\n";
  }
  const ProcessResult result = RunMoraine({"fitcheck", "--history", "--json"}, keep);
  const json history = json::parse(result.out, nullptr, false)["history"];
  ASSERT_EQ(history.size(), 1u) << result.out;
  EXPECT_EQ(history[0]["command"], "run");
  EXPECT_GT(history[0]["measured"]["decode_tok_s"].get<double>(), 0);
  EXPECT_GT(history[0]["predicted"]["decode_tok_s"].get<double>(), 0);
}

}  // namespace
}  // namespace moraine::test
