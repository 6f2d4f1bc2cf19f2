// moraine bench and inspect --kernels: what they print adds up, and nothing runs on oneDNN's reference code.
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/support/moraine_process.h"

namespace moraine::test {
namespace {

const std::string kTiny = std::string(MORAINE_SOURCE_DIR) + "/models/tiny-r1";

nlohmann::json Json(const std::vector<std::string>& arguments) {
  const ProcessResult result = RunMoraine(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return nlohmann::json::parse(result.out, nullptr, false);
}

TEST(Bench, PrintsBoundMeasuredAndTheirRatio) {
  const auto json = Json({"bench", kTiny, "--prompt-tokens", "20", "--tokens", "8", "--json"});
  EXPECT_EQ(json["prompt_tokens"], 20);
  EXPECT_EQ(json["completion_tokens"], 8);
  EXPECT_EQ(json["ids"].size(), 8u);
  const double bound = json["bound"]["decode_tok_s"];
  const double share = json["measured"]["share_of_bound"];
  EXPECT_TRUE(bound > 0 && share > 0 && std::isfinite(bound));
  const double predicted = json["predicted"]["decode_tok_s"];
  EXPECT_TRUE(predicted > 0 && std::isfinite(predicted));
  EXPECT_EQ(json["predicted"]["hit_rate"], 1);
  // Part by part: what was foretold makes the whole, and what was measured is nearly all of it.
  const double dense = json["predicted"]["decode_token"]["dense_s"];
  const double experts = json["predicted"]["decode_token"]["experts_s"];
  EXPECT_NEAR((dense + experts) * predicted, 1, 1e-6);
  for (const char* side : {"decode", "prefill"}) {
    const auto& token = json["measured"][std::string(side) + "_token"];
    const double tokens = json[side == std::string("decode") ? "completion_tokens" : "prompt_tokens"];
    const double parts = (token["dense_s"].get<double>() + token["experts_s"].get<double>()) * tokens;
    EXPECT_GT(token["dense_s"].get<double>(), 0) << side;
    EXPECT_GT(token["experts_s"].get<double>(), 0) << side;
    if (side == std::string("decode")) {
      EXPECT_LE(parts, json["measured"]["decode_s"].get<double>());
    }
  }
  const double read = json["measured"]["read_gb_s"];
  const double bytes = json["bytes_per_token"]["ram"];
  // The median bound against the bound of the median read: the same up to the spread of four parts.
  EXPECT_TRUE(bound >= 0.2 * read * 1e9 / bytes && bound <= 5 * read * 1e9 / bytes) << bound;
}

TEST(Bench, SetsPrefillBesideItsExpertsAlone) {
  const auto json = Json({"bench", kTiny, "--prompt-tokens", "600", "--tokens", "4", "--json"});
  const auto& measured = json["measured"];
  const double all = measured["prefill_gflops"];
  const double experts = measured["expert_gflops"];
  const double share = measured["prefill_share_of_experts"];
  EXPECT_TRUE(all > 0 && experts > 0);
  // Medians of three rounds: of each, and of the rounds' shares.
  EXPECT_TRUE(share >= 0.2 * all / experts && share <= 5 * all / experts) << share;
  const double time = measured["expert_time_share"];
  EXPECT_TRUE(time > 0 && std::isfinite(time));
  // 256 rows a step, 4 of 32 experts each: 32 rows if all experts are chosen.
  const double rows = measured["rows_per_expert"];
  EXPECT_TRUE(rows >= 20 && rows <= 120) << rows;
}

TEST(Bench, WhatCannotBeIsRefused) {
  EXPECT_EQ(RunMoraine({"bench", kTiny, "--tokens", "1"}).exit_code, 2);
  EXPECT_EQ(RunMoraine({"bench", kTiny, "--ctx", "16", "--prompt-tokens", "16"}).exit_code, 2);
  EXPECT_EQ(RunMoraine({"bench", "/nowhere"}).exit_code, 3);
  EXPECT_EQ(RunMoraine({"inspect"}).exit_code, 2);
}

TEST(InspectKernels, ListsEveryRowWithItsReasonAndOneDnnsChoices) {
  for (const char* isa : {"auto", "avx2", "scalar"}) {
    const ProcessResult result = RunMoraine({"inspect", "--kernels", "--isa", isa, "--json"});
    if (result.exit_code == 4) continue;  // this CPU lacks it
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const auto json = nlohmann::json::parse(result.out);
    int used = 0;
    for (const auto& row : json["rows"]) {
      EXPECT_FALSE(row["state"].get<std::string>().empty());
      used += row["state"] == "used" ? 1 : 0;
    }
    const auto& own = json["onednn"]["own"];
    EXPECT_EQ(used, 6 + 6 + 2 + static_cast<int>(own.size()))
        << "one dot and one transposed a format, one q8-dot an integer format, and the tiles named as own: "
        << isa;
    EXPECT_TRUE(own.empty() || std::string(isa) == "auto") << own;
    EXPECT_TRUE(!json["onednn"]["products"].empty() || !json["onednn"]["refused"].empty());
    for (const auto& product : json["onednn"]["products"])
      EXPECT_NE(product["implementation"].get<std::string>().rfind("ref", 0), 0u) << product;
  }
}

TEST(RunJson, PrefillOfManyRowsGoesThroughOneDnn) {
  std::vector<int> ids(512);
  for (int i = 0; i < 512; ++i) ids[static_cast<size_t>(i)] = 20 + i % 600;
  const auto json = Json({"run", kTiny, "--prompt-ids", fmt::format("{}", fmt::join(ids, ",")), "--greedy",
                          "--max-tokens", "1", "--json"});
  if (json["gemm"]["products"].empty())
    GTEST_SKIP() << "oneDNN is not used here: " << json["gemm"]["refused"];
  // 64 rows an expert on average.
  EXPECT_GE(json["gemm"]["share"].get<double>(), 0.9);
}

}  // namespace
}  // namespace moraine::test
