// moraine policy and --policy / --set as a user meets them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "policies/policy_keys.h"
#include "policies/presets.h"
#include "tests/support/moraine_process.h"
#include "tests/support/temp_folder.h"

namespace moraine::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const std::string kTiny = std::string(MORAINE_SOURCE_DIR) + "/models/tiny-r1";

TEST(PolicyCommand, ChecksAFile) {
  const TempFolder folder;
  WriteFile(folder / "good.toml", "schema = 1\n[memory]\nram = \"64GiB\"\n[cache]\npolicy = \"lru\"\n");
  const ProcessResult good = RunMoraine({"policy", "check", folder / "good.toml"});
  EXPECT_EQ(good.exit_code, 0) << good.err;
  EXPECT_EQ(good.out, "schema = 1\n\n[memory]\nram = \"64GiB\"\n\n[cache]\npolicy = \"lru\"\n");

  const ProcessResult object = RunMoraine({"policy", "check", folder / "good.toml", "--json"});
  const auto json = nlohmann::json::parse(object.out, nullptr, false);
  EXPECT_EQ(json["keys"]["memory.ram"]["value"], int64_t{64} << 30);
  EXPECT_THAT(json["keys"]["cache.policy"]["where"].get<std::string>(), HasSubstr("good.toml:5:1"));

  WriteFile(folder / "bad.toml", "schema = 1\n[cache]\npolcy = \"lru\"\n");
  const ProcessResult bad = RunMoraine({"policy", "check", folder / "bad.toml"});
  EXPECT_EQ(bad.exit_code, 2);
  EXPECT_EQ(bad.out, "");
  EXPECT_THAT(bad.err, HasSubstr("bad.toml:3:1: \"polcy\" is no key of [cache]; did you mean policy?"));

  WriteFile(folder / "lossy.toml", "schema = 1\n[lossy]\ntop_k = 6\n");
  const ProcessResult lossy = RunMoraine({"policy", "check", folder / "lossy.toml"});
  EXPECT_EQ(lossy.exit_code, 2);
  EXPECT_THAT(lossy.err, HasSubstr("lossy.top_k = 6 needs fewer experts, which this version lacks"));
  EXPECT_EQ(RunMoraine({"policy", "check", folder / "none.toml"}).exit_code, 2);
}

TEST(PolicyCommand, ShowsPresetsThatPassItsOwnCheck) {
  const TempFolder folder;
  for (const Preset& preset : Presets()) {
    const ProcessResult show = RunMoraine({"policy", "show", std::string(preset.name)});
    EXPECT_EQ(show.exit_code, 0);
    EXPECT_EQ(show.out, preset.text);
    WriteFile(folder / "own.toml", show.out);
    EXPECT_EQ(RunMoraine({"policy", "check", folder / "own.toml"}).exit_code, 0);
  }
  const ProcessResult none = RunMoraine({"policy", "show", "throughputt"});
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_THAT(none.err, HasSubstr("did you mean throughput?"));
}

TEST(PolicyCommand, ListsEveryKey) {
  const ProcessResult keys = RunMoraine({"policy", "keys"});
  EXPECT_EQ(keys.exit_code, 0);
  for (const PolicyKey& key : PolicyKeys()) EXPECT_THAT(keys.out, HasSubstr(key.Name()));
}

TEST(PolicyFlagsOfRun, SayWhatWasSetAndChangeNoAnswer) {
  const std::vector<std::string> plain = {"run",    kTiny, "--greedy", "--json",
                                          "--seed", "1",   "--chat",   "What is 3 + 4?"};
  const ProcessResult without = RunMoraine(plain);
  EXPECT_THAT(without.err, Not(HasSubstr("policy")));
  auto with_policy = plain;
  with_policy.insert(with_policy.end(),
                     {"--policy", "latency", "--set", "prefill.chunk=7", "--threads", "1"});
  const ProcessResult with = RunMoraine(with_policy);
  ASSERT_EQ(with.exit_code, 0) << with.err;
  EXPECT_THAT(with.err, HasSubstr("policy    context.slots = 1  (latency:5:1)"));
  EXPECT_THAT(with.err, HasSubstr("prefill.chunk = 7  (--set)"));
  EXPECT_THAT(with.err, HasSubstr("cpu.threads = 1  (--threads)"));
  EXPECT_EQ(nlohmann::json::parse(with.out)["text"], nlohmann::json::parse(without.out)["text"]);

  auto refused = plain;
  refused.insert(refused.end(), {"--set", "speculation.mode=mtp"});
  EXPECT_EQ(RunMoraine(refused).exit_code, 2);
}

}  // namespace
}  // namespace moraine::test
