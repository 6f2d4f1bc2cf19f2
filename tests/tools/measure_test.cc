// tools/measure.h in less than a second on this machine: every figure is there, and no file stays.
#include "tools/measure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "runtime/hardware_read.h"
#include "tests/support/temp_folder.h"
#include "tools/bench/drive_depths.h"

namespace moraine::tools {
namespace {

using testing::HasSubstr;

MeasureOptions Short() {
  return {.seconds = 0.2,
          .formats = {*ParseFormatChoice("int4-g64")},
          .bank_bytes = int64_t{256} << 20,
          .file_bytes = int64_t{128} << 20};
}

TEST(Measure, EveryFigureIsThere) {
  const Hardware h = *ReadHardware("");
  auto rates = MeasureHardware(h, "", Short());
  if (!rates.has_value() && rates.error().kind == ErrorKind::kDoesNotFit)
    GTEST_SKIP() << rates.error().message;
  ASSERT_TRUE(rates.has_value()) << rates.error().message;
  EXPECT_EQ(rates->fingerprint, h.fingerprint);
  EXPECT_EQ(rates->date.size(), 10u);
  EXPECT_GT(rates->memory_read, 0);
  EXPECT_EQ(rates->node_memory.size(), h.nodes.size());
  EXPECT_GT(rates->attention_flops, 0);
  ASSERT_EQ(rates->experts.size(), 1u);
  EXPECT_EQ(rates->experts[0].format, WeightFormat::kInt4Group);
  EXPECT_GT(rates->experts[0].decode_bytes_s.value, 0);
  ASSERT_EQ(rates->experts[0].prefill.size(), 2u);
  EXPECT_EQ(rates->experts[0].prefill[1].rows, 512);
  EXPECT_TRUE(rates->drives.empty());
}

TEST(Measure, MemoryThatIsShortIsRefused) {
  Hardware h = *ReadHardware("");
  h.ram = {ResidentBytes() + (int64_t{900} << 20), "a test"};
  const auto rates = MeasureHardware(h, "", Short());
  ASSERT_FALSE(rates.has_value());
  EXPECT_EQ(rates.error().kind, ErrorKind::kDoesNotFit);
  EXPECT_THAT(rates.error().message, HasSubstr("a test"));
}

TEST(Measure, TheDriveIsReadThroughAFileThatGoes) {
  const test::TempFolder folder;
  const Hardware h = *ReadHardware(folder.path());
  MeasureOptions options = Short();
  options.processor = false;
  const auto rates = MeasureHardware(h, folder.path(), options);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  if (!rates.has_value()) GTEST_SKIP() << rates.error().message;  // no O_DIRECT, or no room
  ASSERT_EQ(rates->drives.size(), 1u);
  EXPECT_EQ(rates->drives[0].key, h.drive.Key());
  ASSERT_EQ(rates->drives[0].by_depth.size(), 4u);
  for (const DepthRate& rate : rates->drives[0].by_depth) EXPECT_GT(rate.bytes_s, 0) << rate.depth;
  EXPECT_EQ(rates->drives[0].bytes_s, rates->drives[0].by_depth[2].bytes_s);
  EXPECT_THAT(rates->drives[0].note, HasSubstr("written for the purpose"));
  EXPECT_EQ(rates->memory_read, 0);
}

TEST(Measure, ADriveThatCannotBeMeasuredIsANoteBesideTheRest) {
  const test::TempFolder folder;
  Hardware h = *ReadHardware("");
  MeasureOptions options = Short();
  options.file_bytes = int64_t{8} << 20;  // too little to be of use
  const auto both = MeasureHardware(h, folder.path(), options);
  if (both.has_value()) {
    EXPECT_TRUE(both->drives.empty());
    EXPECT_THAT(both->notes, testing::Contains(HasSubstr("the drive was not measured")));
  }
  options.processor = false;
  const auto alone = MeasureHardware(h, folder.path(), options);
  ASSERT_FALSE(alone.has_value());
  EXPECT_EQ(alone.error().kind, ErrorKind::kDoesNotFit);
}

TEST(Measure, AModelsHolesAreNotRead) {
  const test::TempFolder folder;
  test::WriteFile(folder / "model.safetensors", "x");
  std::filesystem::resize_file(folder / "model.safetensors", uintmax_t{1} << 30);
  const auto files = FilesToRead(folder.path(), int64_t{128} << 20, 0.01);
  if (!files.has_value()) GTEST_SKIP() << files.error().message;
  EXPECT_THAT(files->note, HasSubstr("mostly holes"));
  EXPECT_LE(files->bytes, int64_t{128} << 20);
}

}  // namespace
}  // namespace moraine::tools
