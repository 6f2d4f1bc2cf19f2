// storage/convert/output_folder.h: no half a model, nothing overwritten, space asked for first.
#include "storage/convert/output_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>

#include "tests/support/temp_folder.h"

namespace moraine {
namespace {

namespace fs = std::filesystem;
using test::ReadFile;
using test::TempFolder;
using ::testing::HasSubstr;

TEST(OutputFolder, ConfigComesLastAndMakesItAModel) {
  const TempFolder folder;
  {
    auto out = OutputFolder::Create(folder / "out", 100);
    ASSERT_TRUE(out.has_value()) << out.error().message;
    const auto file = (*out)->CreateFile("a", 10);
    ASSERT_TRUE(file.has_value());
    const std::string text = "xyz";
    ASSERT_TRUE(file->WriteAt(4, std::as_bytes(std::span(text))).has_value());
    EXPECT_FALSE((*out)->CreateFile("a", 1).has_value());
    EXPECT_FALSE(fs::exists(folder / "out/config.json"));
    ASSERT_TRUE((*out)->Finish("{}").has_value());
  }
  EXPECT_EQ(ReadFile(folder / "out/config.json"), "{}");
  EXPECT_EQ(ReadFile(folder / "out/a"), std::string("\0\0\0\0xyz\0\0\0", 10));
  EXPECT_FALSE(fs::exists(folder / "out/config.json.unfinished"));
}

TEST(OutputFolder, AnUnfinishedOneIsRemoved) {
  const TempFolder folder;
  {
    auto out = OutputFolder::Create(folder / "out", 100);
    ASSERT_TRUE(out.has_value());
    ASSERT_TRUE((*out)->WriteText("a", "text").has_value());
    EXPECT_TRUE(fs::exists(folder / "out/a"));
  }
  EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST(OutputFolder, MissingParentsAreMadeAndRemovedWithIt) {
  const TempFolder folder;
  { ASSERT_TRUE(OutputFolder::Create(folder / "a/b/out", 1).has_value()); }
  EXPECT_FALSE(fs::exists(folder / "a"));
  {
    auto out = OutputFolder::Create(folder / "a/b/out/", 1);
    ASSERT_TRUE(out.has_value()) << out.error().message;
    test::WriteFile(folder / "a/other", "stays");
  }
  EXPECT_FALSE(fs::exists(folder / "a/b"));
  EXPECT_TRUE(fs::exists(folder / "a/other"));
}

TEST(OutputFolder, RefusesWhatIsInTheWay) {
  const TempFolder folder;
  const auto refusal = [](const std::string& path, int64_t bytes, ErrorKind kind) {
    const auto out = OutputFolder::Create(path, bytes);
    EXPECT_FALSE(out.has_value());
    if (out.has_value()) return std::string();
    EXPECT_EQ(out.error().kind, kind);
    return out.error().message;
  };
  test::WriteFile(folder / "file", "x");
  EXPECT_THAT(refusal(folder.path(), 1, ErrorKind::kUsage), HasSubstr("is not empty"));
  EXPECT_THAT(refusal(folder / "file", 1, ErrorKind::kUsage), HasSubstr("no folder"));
  EXPECT_THAT(refusal(folder / "file/below", 1, ErrorKind::kUsage), HasSubstr("cannot be made"));
  EXPECT_THAT(refusal("", 1, ErrorKind::kUsage), HasSubstr("has no name"));
  EXPECT_THAT(refusal(folder / "out", int64_t{1} << 60, ErrorKind::kDoesNotFit), HasSubstr("GB short"));
  EXPECT_FALSE(fs::exists(folder / "out"));
}

// /dev/full takes no byte: the nearest thing to a disk that fills up under the writer.
TEST(OutputFolder, SaysWhereAFullDiskStoppedIt) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  const TempFolder folder;
  auto out = OutputFolder::Create(folder.path(), 1);
  ASSERT_TRUE(out.has_value());
  fs::create_symlink("/dev/full", folder / "link");
  // Only a name that is free is made, so a link that stands there is not followed.
  EXPECT_FALSE((*out)->CreateFile("link", 0).has_value());
}

TEST(InParallel, RunsAllAndStopsAtAnError) {
  std::atomic<int64_t> sum{0};
  ASSERT_TRUE(InParallel(1000, [&](int64_t i) -> Status {
                sum += i;
                return {};
              }).has_value());
  EXPECT_EQ(sum, 499500);
  std::atomic<int64_t> ran{0};
  const Status status = InParallel(1'000'000, [&](int64_t i) -> Status {
    ++ran;
    return i == 10 ? Status(Fail(ErrorKind::kIo, "ten")) : Status();
  });
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().message, "ten");
  EXPECT_LT(ran, 1'000'000);
}

}  // namespace
}  // namespace moraine
