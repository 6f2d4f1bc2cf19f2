// storage/streamer.h over real files: whatever is asked for arrives, by either backend.
#include "storage/streamer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cstring>

#include "tests/support/stream_case.h"
#include "tests/support/temp_folder.h"

namespace moraine {
namespace {

using test::Pattern;
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

}  // namespace
}  // namespace moraine
