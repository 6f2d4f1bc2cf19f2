// moraine synth and moraine pack as programs: exit codes, what they say, what they leave; and that their
// models run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "tests/support/moraine_process.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_model.h"

namespace moraine::test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// A configuration with sizes that groups of 64 divide.
std::string WriteSmallConfig(const TempFolder& folder) {
  auto config = MakeTestModel().config;
  config["hidden_size"] = 128;
  config["moe_intermediate_size"] = 64;
  WriteFile(folder / "small.json", config.dump());
  return folder / "small.json";
}

TEST(Synth, ModelsOfEveryFormatRun) {
  const TempFolder folder;
  const std::string shape = WriteSmallConfig(folder);
  for (const char* format : {"fp8", "bf16", "int8-g128", "int4-g64"}) {
    const std::string out = folder / format;
    const ProcessResult synth =
        RunMoraine({"synth", shape, out, "--layers", "3", "--format", format, "--skew", "0.1"});
    ASSERT_EQ(synth.exit_code, 0) << synth.err;
    EXPECT_EQ(synth.err, "");
    const ProcessResult run = RunMoraine(
        {"run", out, "--prompt-ids", "5,17,3", "--greedy", "--json", "--max-tokens", "8", "--ignore-eos"});
    EXPECT_EQ(run.exit_code, 0) << run.err;
    EXPECT_THAT(run.out, HasSubstr("\"completion_tokens\":8"));
  }
}

TEST(Synth, SparseFoldersAreInspectedAndNotRun) {
  const TempFolder folder;
  const std::string out = folder / "out";
  ASSERT_EQ(RunMoraine({"synth", "moonlight", out, "--format", "int4-g128", "--sparse"}).exit_code, 0);
  EXPECT_EQ(RunMoraine({"inspect", out}).exit_code, 0);
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"run", out, "--prompt-ids", "5"},
        std::vector<std::string>{"logits", out, "--prompt-ids", "5", "--out", folder / "l.npy"}}) {
    const ProcessResult run = RunMoraine(command);
    EXPECT_EQ(run.exit_code, 3) << command[0];
    EXPECT_THAT(run.err, HasSubstr("moraine synth --sparse wrote it"));
  }
}

TEST(Synth, ExitCodes) {
  const TempFolder folder;
  const std::string shape = WriteSmallConfig(folder);
  EXPECT_EQ(RunMoraine({"synth", "gpt-5", folder / "out"}).exit_code, 2);
  EXPECT_EQ(RunMoraine({"synth", shape, folder.path(), "--layers", "2"}).exit_code, 2);
  EXPECT_EQ(RunMoraine({"synth", shape, folder / "out", "--format", "int3"}).exit_code, 2);
  WriteFile(folder / "bad.json", "[]");
  EXPECT_EQ(RunMoraine({"synth", folder / "bad.json", folder / "out"}).exit_code, 3);
  EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST(Synth, CtrlCLeavesNothing) {
  const TempFolder folder;
  // Large enough to be still at it after a tenth of a second.
  const ProcessResult stopped =
      RunMoraine({"synth", "moonlight", folder / "out", "--layers", "4", "--format", "bf16"},
                 {.interrupt_after_ms = 150});
  EXPECT_EQ(stopped.exit_code, 130) << stopped.err;
  EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST(Pack, PackedModelsRunAndRepeatAsDescribed) {
  const TempFolder folder;
  const std::string shape = WriteSmallConfig(folder);
  ASSERT_EQ(RunMoraine({"synth", shape, folder / "in", "--layers", "3"}).exit_code, 0);
  const ProcessResult packed = RunMoraine({"pack", folder / "in", folder / "out", "--experts", "int4-g128"});
  ASSERT_EQ(packed.exit_code, 0) << packed.err;
  EXPECT_THAT(packed.out, HasSubstr("48 expert matrices in int4-g128"));
  EXPECT_EQ(
      RunMoraine({"run", folder / "out", "--prompt-ids", "5", "--greedy", "--max-tokens", "4"}).exit_code, 0);
  const ProcessResult again = RunMoraine({"pack", folder / "in", folder / "out", "--experts", "int4-g128"});
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_THAT(again.err, HasSubstr("is not empty"));
  EXPECT_EQ(RunMoraine({"pack", folder / "in", folder / "x", "--experts", "int4"}).exit_code, 2);
  EXPECT_EQ(RunMoraine({"pack", folder / "nothing", folder / "x", "--experts", "int8-row"}).exit_code, 3);
  EXPECT_EQ(RunMoraine({"pack", folder / "in", folder / "x"}).exit_code, 2);
}

TEST(Convert, HelpFitsAScreen) {
  for (const char* command : {"synth", "pack"}) {
    const ProcessResult help = RunMoraine({command, "--help"});
    EXPECT_EQ(help.exit_code, 0);
    EXPECT_LE(std::count(help.out.begin(), help.out.end(), '\n'), 24) << command;
  }
}

}  // namespace
}  // namespace moraine::test
