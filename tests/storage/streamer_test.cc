// storage/streamer.h over real files: whatever is asked for arrives, by either backend.
#include "storage/streamer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <chrono>
#include <thread>

#include "tests/support/stream_case.h"

namespace moraine {
namespace {

using test::SlotMemory;
using test::StreamCase;
using ::testing::HasSubstr;

class Backends : public ::testing::TestWithParam<StreamBackendKind> {
 protected:
  StreamerOptions Options() const { return {.backend = GetParam(), .depth = 4, .background_depth = 2}; }
};

INSTANTIATE_TEST_SUITE_P(Streamer, Backends,
                         ::testing::Values(StreamBackendKind::kUring, StreamBackendKind::kPread),
                         [](const auto& each) {
                           return each.param == StreamBackendKind::kUring ? "Uring" : "Pread";
                         });

TEST_P(Backends, ReadsOneRange) {
  StreamCase disk({100'000});
  const auto streamer = disk.Open(Options());
  SlotMemory slot(100'000);
  const StreamRange range = slot.At(0, 12'345, 50'000);
  const Ticket ticket = streamer->Read({&range, 1}, ReadClass::kDemand);
  ASSERT_TRUE(ticket.Wait().has_value());
  EXPECT_TRUE(ticket.Done());
  EXPECT_TRUE(disk.Holds(range));
  streamer->Release(ticket.number());
}

// Any ranges of any files, at any offsets, in any class and any number at a time.
TEST_P(Backends, GivesWhatPreadGives) {
  StreamCase disk({1, 4095, 4096, 70'001, 1'000'000, 3'000'000});
  EXPECT_TRUE(rc::check([&] {
    StreamerOptions options = Options();
    options.depth = *rc::gen::inRange(1, 9);
    options.background_depth = *rc::gen::inRange(1, options.depth + 1);
    options.chunk_bytes = kStreamBlock * *rc::gen::inRange(1, 40);
    const auto streamer = disk.Open(options);
    struct Asked {
      std::vector<SlotMemory> slots;
      std::vector<StreamRange> ranges;
      Ticket ticket;
    };
    std::vector<Asked> all(*rc::gen::inRange<size_t>(1, 8));
    for (Asked& asked : all) {
      const auto count = *rc::gen::inRange(0, 5);
      for (int i = 0; i < count; ++i) {
        const auto file = *rc::gen::inRange(0, 6);
        const int64_t size = disk.files()[static_cast<size_t>(file)].bytes();
        const int64_t offset = *rc::gen::inRange<int64_t>(0, size + 1);
        const int64_t bytes = *rc::gen::inRange<int64_t>(0, size - offset + 1);
        asked.slots.emplace_back(bytes);
        asked.ranges.push_back(asked.slots.back().At(file, offset, bytes));
      }
      asked.ticket = streamer->Read(asked.ranges, static_cast<ReadClass>(*rc::gen::inRange(0, 3)));
    }
    for (const Asked& asked : all) {
      const Status status = asked.ticket.Wait();
      RC_ASSERT(status.has_value());
      for (const StreamRange& range : asked.ranges) RC_ASSERT(disk.Holds(range));
      for (const SlotMemory& slot : asked.slots) RC_ASSERT(slot.EdgesIntact());
      streamer->Release(asked.ticket.number());
    }
    RC_ASSERT(streamer->Room() == options.max_requests);
    RC_ASSERT(streamer->stats().errors == 0);
  }));
}

TEST(Streamer, RefusesOptionsOutOfRange) {
  const StreamCase disk({100});
  const std::pair<StreamerOptions, std::string> cases[] = {
      {{.depth = 0}, "read depth is 0; expected 1 to 1024"},
      {{.background_depth = 0}, "background depth is 0"},
      {{.chunk_bytes = 5000}, "chunk size is 5000 bytes; expected a multiple of 4096"},
      {{.chunk_bytes = 0}, "chunk size is 0"},
      {{.retries = -1}, "retries is -1"},
      {{.stall_timeout = std::chrono::milliseconds(0)}, "stall timeout in ms is 0"},
      {{.check_every = std::chrono::hours(25)}, "looks at a file"},
      {{.max_requests = 0}, "number of requests is 0"},
  };
  for (const auto& [options, why] : cases) {
    const auto streamer = Streamer::Open(disk.files(), options);
    ASSERT_FALSE(streamer.has_value()) << why;
    EXPECT_EQ(streamer.error().kind, ErrorKind::kUsage);
    EXPECT_THAT(streamer.error().message, HasSubstr(why));
  }
}

// An idle streamer sleeps: it does not look round for work.
TEST_P(Backends, IdleCostsNothing) {
  StreamCase disk({100'000});
  const auto streamer = disk.Open(Options());
  SlotMemory slot(1000);
  const StreamRange range = slot.At(0, 0, 1000);
  ASSERT_TRUE(streamer->Read({&range, 1}, ReadClass::kDemand).Wait().has_value());
  // It may take a while to fall asleep, where the machine is busy; what polls never does.
  bool slept = false;
  for (int i = 0; i < 100 && !slept; ++i) {
    const double before = streamer->stats().cpu_seconds;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    slept = streamer->stats().cpu_seconds == before;
  }
  EXPECT_TRUE(slept);
}

TEST_P(Backends, CountsWhatItDoes) {
  StreamCase disk({1'000'000});
  StreamerOptions options = Options();
  options.chunk_bytes = 64 << 10;
  const auto streamer = disk.Open(options);
  SlotMemory slot(500'000);
  const StreamRange range = slot.At(0, 4'000, 500'000);
  ASSERT_TRUE(streamer->Read({&range, 1}, ReadClass::kDemand).Wait().has_value());
  const StreamerStats stats = streamer->stats();
  EXPECT_EQ(stats.requests, 1);
  EXPECT_EQ(stats.wanted_bytes, 500'000);
  EXPECT_EQ(stats.read_bytes, 124 * kStreamBlock) << "blocks 0 to 123 enclose it";
  EXPECT_EQ(stats.reads, 8);
  EXPECT_EQ(stats.max_depth, 4);
  EXPECT_GT(stats.busy_seconds, 0);
  EXPECT_GT(stats.cpu_seconds, 0);
  EXPECT_EQ(stats.retries + stats.short_reads + stats.errors + stats.stalls + stats.adopted + stats.dropped,
            0);
}

}  // namespace
}  // namespace moraine
