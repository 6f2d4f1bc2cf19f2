// moraine run, logits and eval as a user meets them: the shipped model's answers, the goldens' tokens, and
// every refusal.
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/support/compare.h"
#include "tests/support/golden.h"
#include "tests/support/moraine_process.h"
#include "tests/support/temp_folder.h"

namespace moraine::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::string kTiny = std::string(MORAINE_SOURCE_DIR) + "/models/tiny-r1";

std::string Join(const std::vector<int32_t>& ids) { return fmt::format("{}", fmt::join(ids, ",")); }

std::vector<std::string> OnTiny(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"run", kTiny});
  return arguments;
}

nlohmann::json Json(const std::vector<std::string>& arguments) {
  const ProcessResult result = RunMoraine(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return nlohmann::json::parse(result.out, nullptr, false);
}

TEST(Run, AnswersTheQuickstartQuestionWithItsReasoningApart) {
  const ProcessResult result = RunMoraine(OnTiny({"--greedy", "--chat", "What is 348 + 275?"}));
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(StartsWith("--- thinking ---\n"), HasSubstr("8+5=13"),
                                HasSubstr("\n--- answer ---\n348 + 275 = 623\n")));
  EXPECT_THAT(result.err, AllOf(HasSubstr("prompt tokens"), HasSubstr("tok/s"),
                                HasSubstr("read per token: VRAM 0 B, RAM ")));
  const ProcessResult plain = RunMoraine(OnTiny({"--greedy", "--chat", "348 + 275"}));
  EXPECT_THAT(plain.out, HasSubstr("623"));
}

TEST(Run, JsonHasEveryFieldOnOneLine) {
  const ProcessResult result = RunMoraine(OnTiny({"--greedy", "--json", "--chat", "What is 348 + 275?"}));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 1);
  const auto json = nlohmann::json::parse(result.out);
  for (const char* field :
       {"schema", "text", "reasoning", "ids", "finish_reason", "prompt_tokens", "completion_tokens",
        "prefill_tok_s", "decode_tok_s", "bytes_per_token", "hit_rate", "predicted", "measured"}) {
    EXPECT_TRUE(json.contains(field)) << field;
  }
  EXPECT_EQ(json["finish_reason"], "stop");
  EXPECT_EQ(json["completion_tokens"], json["ids"].size());
  EXPECT_THAT(json["text"].get<std::string>(), HasSubstr("623"));
  EXPECT_GT(json["bytes_per_token"]["ram"], 100000);
}

TEST(Run, TheSameSeedGivesTheSameTextAndAnotherSeedAnother) {
  const auto ids = [](const std::string& seed) {
    return Json(OnTiny({"--json", "--chat", "Hello!", "--temperature", "3", "--top-p", "1", "--max-tokens",
                        "40", "--seed", seed}))["ids"];
  };
  EXPECT_EQ(ids("7"), ids("7"));
  EXPECT_NE(ids("7"), ids("8"));
}

TEST(Run, AConversationAnswersEachQuestionUntilItsInputEnds) {
  const ProcessResult result =
      RunMoraine(OnTiny({"--greedy", "--chat"}), {.input = "What is 348 + 275?\nWhat is 5 + 4?\n"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("623"), HasSubstr("= 9")));
}

// The oracle's greedy continuation, through the command line: no tokenizer in that folder, so ids in and ids
// out.
TEST(Run, PromptIdsGiveTheOraclesTokens) {
  for (const char* name : {"v3-bf16", "v3-fp8", "v2", "v2-lite", "moonlight", "v3-hf5"}) {
    const Golden golden(name);
    const auto json =
        Json({"run", golden.folder(), "--prompt-ids", Join(golden.Ints("greedy_prompt")), "--greedy",
              "--max-tokens", "64", "--ignore-eos", "--kv-type", "f32", "--activations", "f32", "--json"});
    const auto got = json["ids"].get<std::vector<int32_t>>();
    const auto& want = golden.Ints("greedy");
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size() && golden.Floats("greedy_margin")[i] >= 1e-4f; ++i)
      ASSERT_EQ(got[i], want[i]) << name << " " << i;
  }
}

TEST(Logits, WritesTheOraclesNumbersAsNpy) {
  const Golden golden("v3-fp8");
  const TempFolder folder;
  const std::string ids = folder / "ids";
  const std::string out = folder / "out.npy";
  std::ofstream(ids) << Join(golden.Ints("ids"));
  const ProcessResult result =
      RunMoraine({"logits", golden.folder(), "--ids-file", ids, "--out", out, "--activations", "f32"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string bytes = ReadFile(out);
  ASSERT_EQ(bytes.substr(0, 6), "\x93NUMPY");
  const size_t header =
      10 + static_cast<unsigned char>(bytes[8]) + 256 * static_cast<unsigned char>(bytes[9]);
  EXPECT_EQ(header % 64, 0u);
  EXPECT_THAT(bytes.substr(0, header), HasSubstr("'shape': (80, 128)"));
  std::vector<float> values((bytes.size() - header) / sizeof(float));
  std::memcpy(values.data(), bytes.data() + header, values.size() * sizeof(float));
  EXPECT_LE(RelativeError(values, golden.Floats("logits")), 1e-5);
}

TEST(Run, CtrlCEndsCleanlyWith130) {
  const ProcessResult result = RunMoraine(OnTiny({"--chat", "Hello", "--ignore-eos", "--ctx", "100000"}),
                                          {.interrupt_after_ms = 1500});
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_THAT(result.err, HasSubstr("interrupted"));
}

struct Refused {
  std::vector<std::string> arguments;
  int exit_code;
  const char* message;
};

TEST(Run, RefusesWithOneLineAndItsExitCode) {
  const std::string missing = "/nowhere/at/all";
  const Refused cases[] = {
      {OnTiny({"--prompt-ids", "5,6,7,8,9,10,11,12", "--ctx", "4"}), 2,
       "the prompt has 8 tokens and the context 4 positions"},
      {OnTiny({"--prompt-ids", "5,99999"}), 2, "token id 99999 is outside the vocabulary"},
      {OnTiny({"--prompt-ids", "5,six"}), 2, "expected decimal token ids"},
      {OnTiny({"--chat", "x", "--ctx", "99999999"}), 2, "this model's context is 163840"},
      {OnTiny({"--chat", "x", "--prompt", "y"}), 2, "give one of"},
      {OnTiny({}), 2, "give one of"},
      {OnTiny({"--chat", "x", "--temperature", "-1"}), 2, "temperature is -1"},
      {OnTiny({"--chat", "x", "--top-p", "0"}), 2, "top-p is 0"},
      {OnTiny({"--chat", "x", "--isa", "mmx"}), 2, "--isa: cpu.isa is \"mmx\"; expected one of auto, "},
      {OnTiny({"--chat", "x", "--kv-type", "q4"}), 2, "--kv-type: context.kv_type is \"q4\""},
      {OnTiny({"--chat", "x", "--ram", "8"}), 2, "--ram: memory.ram is \"8\"; expected a size with its unit"},
      {OnTiny({"--chat", "x", "--ram", "1kB"}), 1, "does not fit"},
      {OnTiny({"--chat", "x", "--threads", "-3"}), 2,
       "--threads: cpu.threads is -3; expected a whole number, 1 to 1024"},
      {{"run", missing, "--chat", "x"}, 3, "/nowhere/at/all"},
      {{"run", Golden("v2").folder(), "--chat", "x"}, 3, "tokenizer.json"},
      {{"logits", kTiny, "--prompt-ids", "5", "--out", "/nowhere/x.npy"}, 5, "/nowhere/x.npy"},
      {{"eval", kTiny, missing}, 2, "/nowhere/at/all"},
  };
  for (const Refused& c : cases) {
    const ProcessResult result = RunMoraine(c.arguments);
    EXPECT_EQ(result.exit_code, c.exit_code) << c.message << "\n" << result.err;
    EXPECT_THAT(result.err, HasSubstr(c.message));
    EXPECT_THAT(result.err, HasSubstr("moraine: "));
  }
}

// The held-out questions of the shipped model, through tokenizer, template, engine and sampler. The same
// weights in transformers' f32 are right as often (models/tiny-r1/README.md); a broken router, cache or
// template loses far more than the slack here.
TEST(Eval, TheShippedModelAnswersItsHeldOutQuestions) {
  const auto accuracy = [](const std::string& file) {
    const ProcessResult result =
        RunMoraine({"eval", kTiny, kTiny + "/eval/" + file, "--json"}, {.limit_s = 500});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const auto json = nlohmann::json::parse(result.out, nullptr, false);
    EXPECT_EQ(json["asked"], 500);
    return json["accuracy"].get<double>();
  };
  EXPECT_GE(accuracy("one_step.jsonl"), 0.99);
  EXPECT_GE(accuracy("two_step.jsonl"), 0.95);
}

}  // namespace
}  // namespace moraine::test
