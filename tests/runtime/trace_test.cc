// runtime/trace/: what is written reads back, a drive that fails ends the trace and not the run, and files
// that are wrong are refused with their offset.
#include "runtime/trace/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <condition_variable>
#include <cstring>
#include <fstream>
#include <sstream>

#include "runtime/core/crc32c.h"
#include "runtime/trace/trace_reader.h"
#include "runtime/trace/trace_writer.h"
#include "tests/support/temp_folder.h"

namespace moraine {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

TraceHeader Header() {
  return {.model_hash = 0x1234567890ABCDEF,
          .seed = 7,
          .expert_bytes = 44'000'000,
          .layers = 3,
          .experts = 16,
          .top_k = 5,
          .guesses = 2,
          .format = "fp8-e4m3-block",
          .layer_map = {3, 4, 61}};
}

// A row whose every field depends on `n`.
struct Row {
  explicit Row(int32_t n) {
    for (size_t i = 0; i < experts.size(); ++i) {
      experts[i] = static_cast<int32_t>((static_cast<size_t>(n) + 3 * i) % 16);
      weights[i] = 0.25f * static_cast<float>(n) + static_cast<float>(i);
      residency[i] = static_cast<Residency>((static_cast<size_t>(n) + i) % 4);
    }
    guesses = {n % 16, (n + 1) % 16};
    row = {.request = n / 100,
           .step = n / 3,
           .position = n * 2,
           .layer = n % 3,
           .phase = n % 2 == 0 ? TracePhase::kPrefill : TracePhase::kDecode,
           .draft = n % 5 == 0,
           .experts = experts,
           .weights = weights,
           .residency = residency};
    if (n % 4 != 0) row.guesses = guesses;
  }
  std::array<int32_t, 5> experts;
  std::array<float, 5> weights;
  std::array<Residency, 5> residency;
  std::array<int32_t, 2> guesses;
  TraceRow row;
};

void ExpectSame(const TraceRow& a, const TraceRow& b) {
  EXPECT_EQ(a.request, b.request);
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.position, b.position);
  EXPECT_EQ(a.layer, b.layer);
  EXPECT_EQ(a.phase, b.phase);
  EXPECT_EQ(a.draft, b.draft);
  EXPECT_TRUE(std::ranges::equal(a.experts, b.experts));
  EXPECT_TRUE(std::ranges::equal(a.weights, b.weights));
  EXPECT_TRUE(std::ranges::equal(a.residency, b.residency));
  EXPECT_TRUE(std::ranges::equal(a.guesses, b.guesses));
}

// A file in memory that takes `room` bytes, and then fails or hangs.
struct Drive {
  std::string bytes;
  size_t room = SIZE_MAX;
  bool hangs = false;
  std::mutex mutex;
  std::condition_variable woken;
};
class DriveSink final : public TraceSink {
 public:
  explicit DriveSink(std::shared_ptr<Drive> drive) : drive_(std::move(drive)) {}
  Status Write(std::span<const std::byte> bytes) override {
    std::unique_lock lock(drive_->mutex);
    const size_t fits = std::min(bytes.size(), drive_->room - drive_->bytes.size());
    drive_->bytes.append(reinterpret_cast<const char*>(bytes.data()), fits);
    if (fits == bytes.size()) return {};
    if (drive_->hangs) drive_->woken.wait(lock, [&] { return !drive_->hangs; });
    return Fail(ErrorKind::kIo, "No space left on device");
  }
  Status Cut(int64_t bytes) override {
    const std::lock_guard lock(drive_->mutex);
    drive_->bytes.resize(static_cast<size_t>(bytes));
    return {};
  }

 private:
  std::shared_ptr<Drive> drive_;
};

std::string TraceBytes(int32_t rows, size_t block_bytes = 1024) {
  auto drive = std::make_shared<Drive>();
  auto writer =
      TraceWriter::Create(std::make_unique<DriveSink>(drive), "t", Header(), {.block_bytes = block_bytes});
  EXPECT_TRUE(writer.has_value());
  for (int32_t n = 0; n < rows; ++n) (*writer)->Add(Row(n).row);
  (*writer)->Close();
  EXPECT_EQ((*writer)->rows_written(), rows);
  return drive->bytes;
}

struct ReadBack {
  int64_t rows = 0;
  std::string notice;
  std::string error;
};
ReadBack Read(const std::string& bytes) {
  ReadBack result;
  auto reader = TraceReader::Open(std::make_unique<std::istringstream>(bytes), "t");
  if (!reader) return {.error = reader.error().message};
  while (true) {
    const auto row = (*reader)->Next();
    if (!row) return {result.rows, "", row.error().message};
    if (*row == nullptr) return {result.rows, (*reader)->Notice(), ""};
    ++result.rows;
  }
}

TEST(Crc32c, KnownAnswers) {
  const std::string digits = "123456789";
  const auto bytes = std::as_bytes(std::span(digits));
  EXPECT_EQ(Crc32c(bytes), 0xE3069283u);
  EXPECT_EQ(Crc32c(bytes.subspan(4), Crc32c(bytes.first(4))), 0xE3069283u) << "in parts";
  EXPECT_EQ(Crc32c(std::vector<std::byte>(32)), 0x8A9136AAu) << "RFC 3720, 32 bytes of zeroes";
  EXPECT_EQ(Crc32c({}), 0u);
}

TEST(Trace, AFileReadsBackTheSame) {
  const test::TempFolder folder;
  const std::string path = folder / "run.trace";
  {
    auto writer = TraceWriter::Create(path, Header());
    ASSERT_TRUE(writer.has_value()) << writer.error().message;
    for (int32_t n = 0; n < 5000; ++n) (*writer)->Add(Row(n).row);
    (*writer)->Close();
    EXPECT_THAT((*writer)->Notice(), IsEmpty());
  }
  auto reader = TraceReader::Open(path);
  ASSERT_TRUE(reader.has_value()) << reader.error().message;
  const TraceHeader& header = (*reader)->header();
  EXPECT_EQ(header.model_hash, Header().model_hash);
  EXPECT_EQ(header.seed, 7u);
  EXPECT_EQ(header.expert_bytes, 44'000'000);
  EXPECT_EQ(header.format, "fp8-e4m3-block");
  EXPECT_EQ(header.layer_map, (std::vector<int32_t>{3, 4, 61}));
  for (int32_t n = 0; n < 5000; ++n) {
    const auto row = (*reader)->Next();
    ASSERT_TRUE(row.has_value() && *row != nullptr) << n;
    ExpectSame(**row, Row(n).row);
  }
  EXPECT_EQ(*(*reader)->Next(), nullptr);
  EXPECT_THAT((*reader)->Notice(), IsEmpty());
}

TEST(Trace, ARowOfR1TakesAbout80Bytes) {
  EXPECT_EQ(TraceRowBytes({.layers = 58, .experts = 256, .top_k = 8, .guesses = 8}), 82);
  EXPECT_EQ(TraceRowBytes({.layers = 58, .experts = 256, .top_k = 8}), 66);
}

TEST(Trace, AFullDriveEndsTheTraceAndNotTheRun) {
  const std::string whole = TraceBytes(1000);
  for (const size_t room : {whole.size() / 2, whole.size() - 1, size_t{200}}) {
    auto drive = std::make_shared<Drive>();
    drive->room = room;
    auto writer =
        TraceWriter::Create(std::make_unique<DriveSink>(drive), "full", Header(), {.block_bytes = 1024});
    ASSERT_TRUE(writer.has_value());
    for (int32_t n = 0; n < 1000; ++n) (*writer)->Add(Row(n).row);
    (*writer)->Close();
    EXPECT_THAT((*writer)->Notice(), HasSubstr("No space left on device; the run goes on"));
    const ReadBack read = Read(drive->bytes);
    EXPECT_EQ(read.error, "");
    EXPECT_EQ(read.notice, "") << "the half block was cut off";
    EXPECT_EQ(read.rows, (*writer)->rows_written());
    EXPECT_EQ(drive->bytes, whole.substr(0, drive->bytes.size()));
  }
  auto device = TraceWriter::Create("/dev/full", Header());
  ASSERT_FALSE(device.has_value());
  EXPECT_EQ(device.error().kind, ErrorKind::kIo);
  EXPECT_THAT(device.error().message, HasSubstr("/dev/full"));
}

TEST(Trace, ADriveThatHangsHoldsAStepUpOnce) {
  auto drive = std::make_shared<Drive>();
  drive->room = 2000;
  drive->hangs = true;
  auto writer = TraceWriter::Create(
      std::make_unique<DriveSink>(drive), "slow", Header(),
      {.block_bytes = 512, .waiting_blocks = 2, .patience = std::chrono::milliseconds(1)});
  ASSERT_TRUE(writer.has_value());
  for (int32_t n = 0; n < 100'000; ++n) (*writer)->Add(Row(n).row);
  EXPECT_THAT((*writer)->Notice(), HasSubstr("the file takes longer than the steps"));
  {
    const std::lock_guard lock(drive->mutex);
    drive->hangs = false;
  }
  drive->woken.notify_all();
  (*writer)->Close();
  EXPECT_EQ(Read(drive->bytes).rows, (*writer)->rows_written());
}

TEST(Trace, AFileThatEndsEarlyIsReadUpToThere) {
  const std::string whole = TraceBytes(100);
  const int64_t per_block = 1024 / TraceRowBytes(Header());
  const size_t header = Read(whole).rows == 100 ? 96 + 3 * 4 + 4 : 0;
  for (size_t size = header; size < whole.size(); size += 7) {
    const ReadBack read = Read(whole.substr(0, size));
    ASSERT_EQ(read.error, "");
    EXPECT_EQ(read.rows % per_block, 0);
    EXPECT_LT(read.rows, 100);
  }
  for (size_t size = 0; size < header; ++size)
    EXPECT_THAT(Read(whole.substr(0, size)).error, HasSubstr("at byte"));
}

TEST(Trace, EveryChangedByteIsFound) {
  const std::string whole = TraceBytes(40);
  for (size_t at = 0; at < whole.size(); ++at) {
    std::string bad = whole;
    bad[at] = static_cast<char>(bad[at] ^ 0x20);
    const ReadBack read = Read(bad);
    // A longer block than the file has looks like a file that ended early.
    EXPECT_TRUE(!read.error.empty() || !read.notice.empty()) << at;
  }
}

TEST(Trace, HeadersOutOfRangeAreRefused) {
  const auto refused = [](void (*change)(TraceHeader&)) {
    TraceHeader header = Header();
    change(header);
    return !TraceWriter::Create(std::make_unique<DriveSink>(std::make_shared<Drive>()), "t", header)
                .has_value();
  };
  EXPECT_TRUE(refused([](TraceHeader& h) { h.layers = 0; }));
  EXPECT_TRUE(refused([](TraceHeader& h) { h.experts = 70'000; }));
  EXPECT_TRUE(refused([](TraceHeader& h) { h.top_k = 17; }));
  EXPECT_TRUE(refused([](TraceHeader& h) { h.guesses = -1; }));
  EXPECT_TRUE(refused([](TraceHeader& h) { h.layer_map = {1, 2}; }));
  EXPECT_TRUE(refused([](TraceHeader& h) { h.layer_map = {3, 3, 4}; }));
  EXPECT_TRUE(refused([](TraceHeader& h) { h.format = std::string(33, 'x'); }));
  EXPECT_FALSE(refused([](TraceHeader&) {}));
}

TEST(Trace, AFolderThatIsNotThereIsAnError) {
  EXPECT_THAT(TraceWriter::Create("/nowhere/at/all", Header()).error().message, HasSubstr("/nowhere/at/all"));
  EXPECT_THAT(TraceReader::Open("/nowhere/at/all").error().message, HasSubstr("cannot be opened"));
}

}  // namespace
}  // namespace moraine
