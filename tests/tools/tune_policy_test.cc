// The keys that are searched and the file that is left; and moraine tune itself.
#include "tools/tune_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "policies/policy_file.h"
#include "tests/support/moraine_process.h"
#include "tests/support/temp_folder.h"
#include "tools/policy_source.h"
#include "tools/tune_axes.h"
#include "tools/whole_file.h"

namespace moraine::tools {
namespace {

using test::ReadFile;
using test::RunMoraine;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kTiny = std::string(MORAINE_SOURCE_DIR) + "/models/tiny-r1";
constexpr TuneScene kStreamed = {
    .streamed = true, .workers = 8, .hardware_threads = 16, .longest_prompt = 300};

ResolvedPolicy User(const std::vector<std::string>& set) {
  PolicyFlags flags;
  flags.set = set;
  const auto resolved = ResolveFlags(flags, [](const char*) -> const char* { return nullptr; });
  EXPECT_TRUE(resolved.has_value());
  return resolved.value_or(ResolvedPolicy{});
}

size_t IndexOf(const std::vector<TuneKey>& keys, const std::string& name) {
  const auto at =
      std::find_if(keys.begin(), keys.end(), [&](const TuneKey& k) { return k.axis.name == name; });
  EXPECT_NE(at, keys.end()) << name;
  return static_cast<size_t>(at - keys.begin());
}

TEST(TuneKeys, BeginAtTheUsersValueAndKnowTheProgramsOwn) {
  const auto keys = TuneKeys(User({"io.depth=3", "prefetch.mode=next-gate"}).policy, kStreamed);
  const TuneKey& depth = keys[IndexOf(keys, "io.depth")];
  EXPECT_EQ(depth.values[depth.axis.start], PolicyValue(int64_t{3}));
  EXPECT_EQ(depth.values[depth.axis.automatic], PolicyValue());
  EXPECT_GT(depth.axis.automatic, depth.axis.start) << "3 lies below 16";
  const TuneKey& mode = keys[IndexOf(keys, "prefetch.mode")];
  EXPECT_EQ(mode.values[mode.axis.start], PolicyValue(std::string("next-gate")));
  EXPECT_NE(mode.axis.start, mode.axis.automatic);
  const TuneKey& threads = keys[IndexOf(keys, "cpu.threads")];
  EXPECT_EQ(threads.axis.start, threads.axis.automatic);
  for (const TuneKey& key : keys) {
    ASSERT_EQ(key.axis.values, key.values.size());
    ASSERT_LT(key.axis.start, key.values.size());
    for (const PolicyValue& value : key.values) {
      if (!std::holds_alternative<std::monostate>(value)) {
        std::string text = FormatPolicyValue(*key.key, value);
        std::erase(text, '"');
        EXPECT_TRUE(ParsePolicyValue(*key.key, text).has_value()) << key.axis.name << " = " << text;
      }
    }
    EXPECT_EQ(std::count(key.values.begin(), key.values.end(), PolicyValue()), 1) << key.axis.name;
  }
}

TEST(TuneKeys, OfAModelThatIsAllInMemoryTheDriveIsLeftAlone) {
  for (const TuneKey& key : TuneKeys({}, {.workers = 1, .hardware_threads = 1})) {
    EXPECT_THAT(key.axis.name, Not(HasSubstr("io.")));
    EXPECT_THAT(key.axis.name, Not(HasSubstr("cache.")));
  }
}

TEST(TuneKeys, PolicyAtSetsAndUnsets) {
  const ResolvedPolicy user = User({"io.depth=1", "context.tokens=512"});
  const auto keys = TuneKeys(user.policy, kStreamed);
  TunePoint point;
  for (const TuneKey& key : keys) point.push_back(key.axis.start);
  EXPECT_EQ(PolicyAt(user.policy, keys, point).io.depth, 1);
  const size_t depth = IndexOf(keys, "io.depth");
  point[depth] = keys[depth].axis.automatic;
  point[IndexOf(keys, "cache.policy")] = 1;
  const Policy at = PolicyAt(user.policy, keys, point);
  EXPECT_FALSE(at.io.depth);
  EXPECT_TRUE(at.cache.policy);
  EXPECT_EQ(at.context.tokens, 512);
}

TEST(TunedPolicy, IsAFileThatSaysHowItCameAbout) {
  const ResolvedPolicy user = User({"io.depth=1", "memory.ram=2GiB"});
  const auto keys = TuneKeys(user.policy, kStreamed);
  TuneOutcome outcome;
  for (const TuneKey& key : keys) outcome.start.push_back(key.axis.start);
  outcome.best = outcome.start;
  const size_t depth = IndexOf(keys, "io.depth");
  const size_t chunk = IndexOf(keys, "io.chunk");
  outcome.best[depth] = keys[depth].axis.automatic;
  outcome.best[chunk] = 0;
  outcome.found = outcome.best;
  outcome.trials = {{.axis = depth,
                     .from = outcome.start[depth],
                     .to = outcome.best[depth],
                     .ratios = {2, 2.5, 3},
                     .verdict = Verdict::kAccepted},
                    {.axis = chunk,
                     .from = outcome.start[chunk],
                     .to = 0,
                     .verdict = Verdict::kRejected,
                     .refused = "no\nroom"}};
  outcome.held_ratios = {2.5, 2.4, 2.6};
  outcome.before = TuneRun{.seconds = 5, .decode_tok_s = 2};
  outcome.after = TuneRun{.seconds = 2, .decode_tok_s = 5, .hit_rate = 0.4};
  const TuneOrigin origin{
      .model = "m\nschema = 2", .fingerprint = "a \"CPU\"", .date = "2026-11-25", .prompts = "p"};
  const std::string text = TunedPolicyText(user, keys, outcome, origin);
  EXPECT_THAT(text, HasSubstr("# io.depth 1 -> auto: x2.500 (2.000 2.500 3.000), kept\n"));
  const auto layer = ParsePolicy(text, "tuned.toml");
  ASSERT_TRUE(layer.has_value()) << layer.error().message << "\n" << text;
  const auto resolved = ResolvePolicy({.file = *layer});
  ASSERT_TRUE(resolved.has_value());
  EXPECT_FALSE(resolved->policy.io.depth) << "auto";
  EXPECT_EQ(resolved->policy.io.chunk, 65536);
  EXPECT_EQ(resolved->policy.memory.ram, 2147483648) << "what the user had set stays";
  EXPECT_EQ(resolved->policy.measured.fingerprint, "a \"CPU\"");
  EXPECT_EQ(layer->figures.at("gain"), 2.5);
  EXPECT_EQ(layer->figures.at("decode_tok_s"), 5);
}

TEST(WholeFile, ReplacesWhatWasThereOrLeavesIt) {
  const test::TempFolder folder;
  ASSERT_TRUE(WriteWhole(folder / "f", "one").has_value());
  ASSERT_TRUE(WriteWhole(folder / "f", "two").has_value());
  EXPECT_EQ(ReadFile(folder / "f"), "two");
  EXPECT_FALSE(WriteWhole(folder / "no" + std::string("/f"), "x").has_value());
  std::filesystem::create_directory(folder / "d");
  EXPECT_FALSE(WriteWhole(folder / "d", "x").has_value());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 2)
      << "nothing beside them";
}

TEST(Tune, LeavesAPolicyThatTheProgramTakes) {
  const test::TempFolder folder;
  const auto result =
      RunMoraine({"tune", kTiny, "--set", "cache.slots=48", "--tokens", "4", "--prompt-tokens", "8",
                  "--minutes", "0.1", "--out", folder / "tuned.toml", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto json = nlohmann::json::parse(result.out);
  EXPECT_GT(json["trials"].size(), 0u);
  EXPECT_EQ(json["trials"][0]["key"], "io.depth");
  EXPECT_EQ(ReadFile(folder / "tuned.toml"), json["policy"]);
  EXPECT_EQ(RunMoraine({"policy", "check", folder / "tuned.toml"}).exit_code, 0);
  EXPECT_EQ(RunMoraine({"run", kTiny, "--policy", folder / "tuned.toml", "--prompt-ids", "5", "--greedy",
                        "--max-tokens", "2"})
                .exit_code,
            0);
}

TEST(Tune, RefusesAndStops) {
  const test::TempFolder folder;
  EXPECT_EQ(RunMoraine({"tune", kTiny, "--minutes", "0"}).exit_code, 2);
  EXPECT_EQ(RunMoraine({"tune", kTiny, "--tokens", "9000"}).exit_code, 2);
  EXPECT_EQ(RunMoraine({"tune", "/nowhere"}).exit_code, 3);
  test::WriteFile(folder / "ids", "1,2");
  EXPECT_EQ(RunMoraine({"tune", kTiny, "--ids-file", folder / "ids"}).exit_code, 2);
  const auto stopped =
      RunMoraine({"tune", kTiny, "--tokens", "64", "--out", folder / "t.toml"}, {.interrupt_after_ms = 700});
  EXPECT_EQ(stopped.exit_code, 130);
  EXPECT_FALSE(std::filesystem::exists(folder / "t.toml"));
}

}  // namespace
}  // namespace moraine::tools
