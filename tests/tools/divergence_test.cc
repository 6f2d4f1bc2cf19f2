// tools/divergence.h: the KL of logits by hand, and a model against itself and against another.
#include "tools/divergence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/moraine_process.h"
#include "tests/support/temp_folder.h"

namespace moraine::tools {
namespace {

using ::testing::HasSubstr;

const std::string kModel = MORAINE_SOURCE_DIR "/models/tiny-r1";

TEST(KlOfLogits, IsTheDefinition) {
  // p = (1/4, 3/4), q = (1/2, 1/2); logits may be shifted by anything.
  const std::vector<float> p = {100.f, 100.f + std::log(3.f)};
  const std::vector<float> q = {-7.f, -7.f};
  EXPECT_NEAR(KlOfLogits(p, q), 0.25 * std::log(0.5) + 0.75 * std::log(1.5), 1e-6);
  EXPECT_NEAR(KlOfLogits(q, p), 0.5 * std::log(2.0) + 0.5 * std::log(2.0 / 3.0), 1e-6);
  EXPECT_EQ(KlOfLogits(p, p), 0);
  // Far apart, but finite: no probability is rounded to zero before its logarithm is taken.
  const std::vector<float> a = {0.f, 2000.f};
  const std::vector<float> b = {2000.f, 0.f};
  EXPECT_NEAR(KlOfLogits(a, b), 2000, 1e-6);
  EXPECT_TRUE(std::isnan(KlOfLogits({{std::nanf(""), 0.f}}, q)));
}

// The reply's positions only: of 3 questions, those of the reference texts and the end token.
TEST(Divergence, IsZeroAgainstItselfAndNotAgainstACoarserOne) {
  const std::string questions = MORAINE_SOURCE_DIR "/models/tiny-r1/eval/one_step.jsonl";
  const auto eval = [&](const std::string& model) {
    return test::RunMoraine(
        {"eval", model, questions, "--limit", "3", "--against", kModel, "--kv-type", "f32"});
  };
  const test::ProcessResult itself = eval(kModel);
  ASSERT_EQ(itself.exit_code, 0) << itself.err;
  EXPECT_THAT(itself.out,
              HasSubstr("mean KL 0.000e+00 nats, largest 0.000e+00; same first choice: 100.000 %"));
  const test::TempFolder folder;
  ASSERT_EQ(test::RunMoraine({"pack", kModel, folder / "out", "--experts", "int4-g64"}).exit_code, 0);
  const test::ProcessResult packed = eval(folder / "out");
  ASSERT_EQ(packed.exit_code, 0) << packed.err;
  EXPECT_THAT(packed.out, HasSubstr("mean KL "));
  EXPECT_THAT(packed.out, ::testing::Not(HasSubstr("mean KL 0.000e+00")));
}

TEST(Divergence, RefusesAModelOfOtherTokens) {
  const test::ProcessResult other =
      test::RunMoraine({"eval", kModel, MORAINE_SOURCE_DIR "/models/tiny-r1/eval/one_step.jsonl", "--limit",
                        "1", "--against", MORAINE_SOURCE_DIR "/tests/goldens/v3-fp8"});
  EXPECT_EQ(other.exit_code, 2);
  EXPECT_THAT(other.err, HasSubstr("cannot be compared"));
}

}  // namespace
}  // namespace moraine::tools
