// moraine replay as a user meets it: made-up traces, the sweep's figures, the plot, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/moraine_process.h"
#include "tests/support/temp_folder.h"

namespace moraine::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string Generate(const TempFolder& folder, const char* tokens = "200", const char* prompt = "0") {
  const std::vector<std::string> arguments = {
      "replay", folder / "t.trace", "--generate", "--layers", "4",    "--experts",      "32", "--top-k",
      "4",      "--tokens",         tokens,       "--prompt", prompt, "--expert-bytes", "1MB"};
  const ProcessResult made = RunMoraine(arguments);
  EXPECT_EQ(made.exit_code, 0) << made.err;
  EXPECT_THAT(made.err, HasSubstr("lag-1 overlap"));
  return folder / "t.trace";
}

nlohmann::json Replay(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "replay");
  arguments.emplace_back("--json");
  const ProcessResult result = RunMoraine(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return nlohmann::json::parse(result.out, nullptr, false);
}

TEST(Replay, SweepsPoliciesAndSizesOfATrace) {
  const TempFolder folder;
  const std::string trace = Generate(folder, "200", "50");
  const auto json =
      Replay({trace, "--fractions", "0.25,1", "--floors", "0,uniform", "--nvme", "1GB", "--mem-bw", "4GB"});
  EXPECT_EQ(json["trace"]["layers"], 4);
  EXPECT_EQ(json["trace"]["steps"], 201);
  EXPECT_EQ(json["expert_bytes"], 1'000'000) << "the trace's";
  ASSERT_EQ(json["results"].size(), 2u * (4 * 2 + 2));
  double belady = 0;
  for (const auto& row : json["results"])
    if (row["policy"] == "belady" && row["slots"] == 32) belady = row["hit_rate"];
  for (const auto& row : json["results"]) {
    EXPECT_EQ(row["tokens"], 200) << "decode steps alone";
    EXPECT_EQ(row["hits"].get<int64_t>() + row["misses"].get<int64_t>(), 200 * 4 * 4);
    const double hit_rate = row["hit_rate"];
    const bool bounded = row["slots"] == 32 && row["policy"] != "belady-bypass";
    EXPECT_LE(hit_rate, bounded ? belady : 1) << row;
    EXPECT_GE(hit_rate, row["slots"] == 128 ? 0.99 : 0) << row << " all fit";
    const double drive = row["nvme_bytes_per_token"].get<double>() / 1e9 * 1e3;
    EXPECT_NEAR(row["nvme_bytes_per_token"].get<double>(), row["misses"].get<double>() * 1e6 / 200, 1);
    EXPECT_NEAR(row["ms_summed"].get<double>(), drive + 16 * 1e6 / 4e9 * 1e3, 1e-9);
    EXPECT_NEAR(row["ms_beside"].get<double>(), std::max(drive, 16 * 1e6 / 4e9 * 1e3), 1e-9);
  }
}

TEST(Replay, TakesKeysOfThePolicy) {
  const TempFolder folder;
  const std::string trace = Generate(folder);
  const auto promoted = [&](const std::string& hysteresis) {
    return Replay({trace, "--slots", "40", "--policies", "ewma", "--set",
                   "cache.hysteresis=" + hysteresis})["results"][0]["promoted"]
        .get<int64_t>();
  };
  EXPECT_GT(promoted("0"), 2 * promoted("1"));
}

TEST(Replay, PrintsATableAndAPlot) {
  const TempFolder folder;
  const std::string trace = Generate(folder);
  const ProcessResult result = RunMoraine({"replay", trace, "--svg", folder / "p.svg"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("belady-bypass"));
  const std::string svg = ReadFile(folder / "p.svg");
  EXPECT_THAT(svg, StartsWith("<svg"));
  EXPECT_THAT(svg, HasSubstr("</svg>"));
  size_t curves = 0;
  for (size_t at = svg.find("<polyline"); at != svg.npos; at = svg.find("<polyline", at + 1)) ++curves;
  EXPECT_EQ(curves, 6u);
}

TEST(Replay, ATraceThatEndsEarlyIsReadUpToItsLastWholeStep) {
  const TempFolder folder;
  const std::string trace = Generate(folder, "3000");
  const std::string whole = ReadFile(trace);
  WriteFile(trace, whole.substr(0, whole.size() - 100));
  const ProcessResult result = RunMoraine({"replay", trace, "--slots", "64", "--policies", "lru", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("ends inside a block at byte"));
  // 41 bytes a row: seven blocks of 1598 rows, the last two of which are half a step.
  const auto json = nlohmann::json::parse(result.out, nullptr, false);
  EXPECT_EQ(json["trace"]["steps"], 7 * 1598 / 4);
}

// The simulator is the engine's own bookkeeping: over the trace of a run its counters are the run's.
TEST(Replay, OfARunHasTheRunsOwnHitRate) {
  const std::string model = std::string(MORAINE_SOURCE_DIR) + "/models/tiny-r1";
  for (const char* policy : {"ewma", "lru", "lfu"}) {
    for (const char* slots : {"16", "40", "60"}) {
      const TempFolder folder;
      const std::string set = std::string("cache.policy=") + policy;
      const ProcessResult run =
          RunMoraine({"run", model, "--chat", "What is 348 + 275?", "--greedy", "--json", "--trace",
                      folder / "t", "--set", set, "--set", std::string("cache.slots=") + slots, "--set",
                      "cache.staging=8", "--set", "cache.floor_ram=2"});
      ASSERT_EQ(run.exit_code, 0) << run.err;
      const auto answer = nlohmann::json::parse(run.out, nullptr, false);
      const auto replay = Replay({folder / "t", "--slots", slots, "--policies", policy, "--floors", "2",
                                  "--set", "cache.staging=8"})["results"][0];
      SCOPED_TRACE(replay.dump());
      EXPECT_LT(answer["hit_rate"], 1.0);
      EXPECT_NEAR(answer["hit_rate"].get<double>(), replay["hit_rate"].get<double>(), 1e-12);
      // The prompt yields the first token; the last step yields the end of text, which does not count.
      EXPECT_EQ(replay["tokens"], answer["completion_tokens"]);
    }
  }
}

// A trace is a profile: the same question again, with what it used pinned, is what hindsight would have done.
TEST(Replay, OfAPinnedRunIsHindsight) {
  const std::string model = std::string(MORAINE_SOURCE_DIR) + "/models/tiny-r1";
  const TempFolder folder;
  const std::vector<std::string> question = {"run",      model,   "--chat", "What is 348 + 275?",
                                             "--greedy", "--json"};
  const auto ask = [&](std::vector<std::string> more) {
    more.insert(more.begin(), question.begin(), question.end());
    return RunMoraine(more);
  };
  ASSERT_EQ(ask({"--trace", folder / "t"}).exit_code, 0);
  const std::string profile = "cache.profile=" + (folder / "t");
  const ProcessResult run = ask({"--set", "cache.policy=pinned", "--set", profile, "--set", "cache.slots=40",
                                 "--set", "cache.staging=8", "--set", "cache.floor_ram=2"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto answer = nlohmann::json::parse(run.out, nullptr, false);
  const auto replay = Replay({folder / "t", "--slots", "40", "--policies", "pinned", "--floors", "2", "--set",
                              "cache.staging=8"})["results"][0];
  EXPECT_LT(answer["hit_rate"], 1.0);
  EXPECT_NEAR(answer["hit_rate"].get<double>(), replay["hit_rate"].get<double>(), 1e-12);

  const std::string other = Generate(folder);
  const ProcessResult refused =
      ask({"--set", "cache.policy=pinned", "--set", "cache.profile=" + other, "--set", "cache.slots=40"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("another model's trace"));
  EXPECT_EQ(ask({"--set", "cache.policy=pinned", "--set", "cache.profile=/nowhere"}).exit_code, 5);
}

TEST(Replay, RefusesWithOneLineAndItsExitCode) {
  const TempFolder folder;
  const std::string trace = Generate(folder);
  std::string bad = ReadFile(trace);
  bad[bad.size() / 2] = static_cast<char>(bad[bad.size() / 2] ^ 1);
  WriteFile(folder / "bad.trace", bad);
  const struct {
    std::vector<std::string> arguments;
    int exit_code;
    const char* message;
  } cases[] = {
      {{folder / "bad.trace"}, 5, "checksum"},
      {{"/nowhere.trace"}, 5, "cannot be opened"},
      {{trace, "--policies", "fifo"}, 2, "--policies has \"fifo\"; known are ewma"},
      {{trace, "--fractions", "0"}, 2, "--fractions has 0"},
      {{trace, "--slots", "0"}, 2, "--slots has 0"},
      {{trace, "--floors", "few"}, 2, "--floors has \"few\""},
      {{trace, "--nvme", "6"}, 2, "--nvme is \"6\""},
      {{trace, "--set", "cache.hysterisis=1"}, 2, "did you mean cache.hysteresis?"},
      {{trace, "--svg", "/nowhere/p.svg"}, 5, "/nowhere/p.svg"},
      {{folder / "new", "--generate", "--overlap", "2"}, 2, "overlap 0 to 1"},
      {{"/dev/full", "--generate"}, 5, "No space left"},
  };
  for (const auto& c : cases) {
    std::vector<std::string> arguments = c.arguments;
    arguments.insert(arguments.begin(), "replay");
    const ProcessResult result = RunMoraine(arguments);
    EXPECT_EQ(result.exit_code, c.exit_code) << c.message << "\n" << result.err;
    EXPECT_THAT(result.err, HasSubstr(c.message));
  }
}

}  // namespace
}  // namespace moraine::test
