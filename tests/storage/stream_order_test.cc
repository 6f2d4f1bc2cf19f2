// storage/streamer.h: in which order things are read, and what raising, dropping and releasing do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "storage/stream/scheduler.h"
#include "storage/streamer.h"
#include "tests/support/faulty_backend.h"
#include "tests/support/stream_case.h"

namespace moraine {
namespace {

using test::Answer;
using test::FaultyBackend;
using test::SlotMemory;
using test::StreamCase;
using ::testing::ElementsAre;

constexpr int64_t kChunk = 16 << 10;

// One chunk at a time. The first read, a demand for chunk 0, hangs until LetGo: what is asked for meanwhile
// queues.
class StreamOrder : public ::testing::Test {
 protected:
  StreamOrder() {
    auto backend = std::make_unique<FaultyBackend>([](const ChunkRead&) { return Answer{.hang = true}; });
    drive_ = backend.get();
    streamer_ = disk_.Open({.depth = 1, .background_depth = 1, .chunk_bytes = kChunk}, std::move(backend));
    first_ = Ask(0, 1, ReadClass::kDemand);
    drive_->AwaitSeen(1);
  }
  ~StreamOrder() override { drive_->LetGo(); }

  // Chunks [from, from + count) of the file.
  Ticket Ask(int64_t from, int64_t count, ReadClass urgency) {
    slots_.emplace_back(count * kChunk);
    const StreamRange range = slots_.back().At(0, from * kChunk, count * kChunk);
    return streamer_->Read({&range, 1}, urgency);
  }

  // Which chunks were read, in order, once all of `tickets` have ended.
  std::vector<int64_t> Order(std::initializer_list<Ticket> tickets) {
    drive_->LetGo();
    for (const Ticket& ticket : tickets) EXPECT_TRUE(ticket.Wait().has_value());
    EXPECT_TRUE(first_.Wait().has_value());
    std::vector<int64_t> order;
    for (const ChunkRead& read : drive_->Seen()) order.push_back(read.offset / kChunk);
    return order;
  }

  StreamCase disk_{{32 * kChunk}};
  std::vector<SlotMemory> slots_;
  FaultyBackend* drive_ = nullptr;
  std::unique_ptr<Streamer> streamer_;
  Ticket first_;
};

TEST_F(StreamOrder, TheMostUrgentClassFirstAndWithinItTheOldest) {
  const Ticket warm = Ask(1, 1, ReadClass::kWarmUp);
  const Ticket look = Ask(2, 1, ReadClass::kLookAhead);
  const Ticket one = Ask(3, 1, ReadClass::kDemand);
  const Ticket two = Ask(4, 1, ReadClass::kDemand);
  const Ticket look_two = Ask(5, 1, ReadClass::kLookAhead);
  EXPECT_THAT(Order({warm, look, one, two, look_two}), ElementsAre(0, 3, 4, 2, 5, 1));
}

TEST_F(StreamOrder, ALookAheadThatBecomesADemandIsNotReadTwice) {
  const Ticket look = Ask(1, 2, ReadClass::kLookAhead);
  const Ticket other = Ask(3, 1, ReadClass::kLookAhead);
  const Ticket demand = Ask(4, 1, ReadClass::kDemand);
  streamer_->Raise(look.number(), ReadClass::kDemand);
  EXPECT_THAT(Order({look, other, demand}), ElementsAre(0, 4, 1, 2, 3));
  EXPECT_EQ(streamer_->stats().adopted, 1);
}

TEST_F(StreamOrder, RaisingNeverLowers) {
  const Ticket demand = Ask(1, 1, ReadClass::kDemand);
  const Ticket look = Ask(2, 1, ReadClass::kLookAhead);
  streamer_->Raise(demand.number(), ReadClass::kWarmUp);
  streamer_->Raise(demand.number(), ReadClass::kDemand);
  EXPECT_THAT(Order({demand, look}), ElementsAre(0, 1, 2));
  EXPECT_EQ(streamer_->stats().adopted, 0);
}

TEST_F(StreamOrder, WhatIsDroppedBeforeItStartsIsNeverRead) {
  const Ticket look = Ask(1, 3, ReadClass::kLookAhead);
  const Ticket demand = Ask(4, 1, ReadClass::kDemand);
  EXPECT_TRUE(streamer_->Drop(look.number()));
  EXPECT_TRUE(look.Done());
  EXPECT_EQ(look.Wait().error().kind, ErrorKind::kInterrupted);
  streamer_->Release(look.number());
  EXPECT_THAT(Order({demand}), ElementsAre(0, 4));
  EXPECT_EQ(streamer_->stats().dropped, 1);
  EXPECT_EQ(streamer_->stats().errors, 0);
}

TEST_F(StreamOrder, WhatIsAllUnderWayCannotBeDropped) {
  EXPECT_FALSE(streamer_->Drop(first_.number()));
  EXPECT_THAT(Order({}), ElementsAre(0));
  EXPECT_FALSE(streamer_->Drop(first_.number())) << "it has ended";
  EXPECT_TRUE(first_.Wait().has_value());
  EXPECT_EQ(streamer_->stats().dropped, 0);
}

TEST_F(StreamOrder, NothingToReadIsDoneAtOnce) {
  const Ticket none = streamer_->Read({}, ReadClass::kDemand);
  EXPECT_TRUE(none.Done());
  const Ticket empty = Ask(3, 0, ReadClass::kDemand);
  EXPECT_TRUE(empty.Done());
  EXPECT_TRUE(empty.Wait().has_value());
  EXPECT_THAT(Order({}), ElementsAre(0));
}

TEST_F(StreamOrder, RoomComesBackWithRelease) {
  const int room = streamer_->Room();
  const Ticket look = Ask(1, 1, ReadClass::kLookAhead);
  EXPECT_EQ(streamer_->Room(), room - 1);
  Order({look});
  EXPECT_EQ(streamer_->Room(), room - 1) << "its outcome is kept";
  streamer_->Release(look.number());
  EXPECT_EQ(streamer_->Room(), room);
}

using StreamOrderDeathTest = StreamOrder;

TEST_F(StreamOrderDeathTest, ABugOfTheCallerStopsTheProcess) {
  ::testing::GTEST_FLAG(death_test_style) = "threadsafe";
  SlotMemory slot(4 * kChunk);
  StreamRange range = slot.At(0, 0, 100);
  EXPECT_DEATH(streamer_->Release(first_.number()), "Settled");
  EXPECT_DEATH(streamer_->Done(first_.number() + 1), "number");
  range.to += 1;
  EXPECT_DEATH(streamer_->Read({&range, 1}, ReadClass::kDemand), "kStreamBlock");
  range = slot.At(0, 31 * kChunk, kChunk + 1);
  EXPECT_DEATH(streamer_->Read({&range, 1}, ReadClass::kDemand), "bytes");
  const StreamRange twice[] = {slot.At(0, 0, 5000), slot.At(0, kChunk, 5000)};
  EXPECT_DEATH(streamer_->Read(twice, ReadClass::kDemand), "Clash");
}

// The scheduler alone, for what needs two drives.

StreamTime At(int ms) { return StreamTime() + std::chrono::milliseconds(ms); }

// Late after 100 ms, given up 10 ms after that was seen.
void LookForStalls(StreamScheduler& scheduler, int ms) {
  scheduler.FailStalled(At(ms), std::chrono::milliseconds(100), std::chrono::milliseconds(10));
}

TEST(StreamScheduler, EveryDeviceHasItsOwnDepth) {
  StreamScheduler scheduler({0, 1},
                            {.depth = 2, .background_depth = 2, .chunk_bytes = kChunk, .max_requests = 8});
  std::vector<StreamChunk> out(static_cast<size_t>(scheduler.capacity()));
  SlotMemory slow(8 * kChunk);
  SlotMemory fast(8 * kChunk);
  const StreamRange on_slow = slow.At(0, 0, 8 * kChunk);
  const StreamRange on_fast = fast.At(1, 0, 8 * kChunk);
  scheduler.Add({&on_slow, 1}, ReadClass::kDemand, At(0));
  const uint64_t second = scheduler.Add({&on_fast, 1}, ReadClass::kWarmUp, At(0));
  ASSERT_EQ(scheduler.Take(out, At(0)), 4u) << "two each: the other's demand takes nothing from the warm-up";
  int on_fast_started = 2;
  for (size_t i = 0; i < 4; ++i)
    if (out[i].file == 1) scheduler.Finish(out[i].id, out[i].bytes, At(1));
  while (!scheduler.Done(second)) {
    ASSERT_LT(on_fast_started, 9);
    const size_t count = scheduler.Take(out, At(1));
    for (size_t i = 0; i < count; ++i) {
      ASSERT_EQ(out[i].file, 1) << "the slow drive has given nothing back";
      scheduler.Finish(out[i].id, out[i].bytes, At(1));
      ++on_fast_started;
    }
  }
  EXPECT_EQ(on_fast_started, 8);
  EXPECT_EQ(scheduler.under_way(), 2);
}

TEST(StreamScheduler, OneDriveThatHangsFailsOnlyItsOwn) {
  StreamScheduler scheduler({0, 1},
                            {.depth = 2, .background_depth = 2, .chunk_bytes = kChunk, .max_requests = 8});
  std::vector<StreamChunk> out(static_cast<size_t>(scheduler.capacity()));
  SlotMemory hung(8 * kChunk);
  SlotMemory well(8 * kChunk);
  const StreamRange on_hung = hung.At(0, 0, 8 * kChunk);
  const StreamRange on_well = well.At(1, 0, 8 * kChunk);
  const uint64_t first = scheduler.Add({&on_hung, 1}, ReadClass::kDemand, At(0));
  const uint64_t second = scheduler.Add({&on_well, 1}, ReadClass::kDemand, At(0));
  ASSERT_EQ(scheduler.Take(out, At(0)), 4u);
  for (size_t i = 0; i < 4; ++i)
    if (out[i].file == 1) scheduler.Finish(out[i].id, out[i].bytes, At(90));
  LookForStalls(scheduler, 99);
  LookForStalls(scheduler, 109);
  EXPECT_FALSE(scheduler.Done(first)) << "late since the second look only";
  LookForStalls(scheduler, 119);
  EXPECT_TRUE(scheduler.Done(first));
  EXPECT_FALSE(scheduler.Settled(first));
  EXPECT_EQ(scheduler.Fault(first)->kind, StreamFault::Kind::kStalled);
  EXPECT_FALSE(scheduler.Done(second));
  // The two chunks on the drive that hangs come after all.
  for (size_t i = 0; i < 4; ++i)
    if (out[i].file == 0) scheduler.Finish(out[i].id, out[i].bytes, At(200));
  EXPECT_TRUE(scheduler.Settled(first));
  EXPECT_NE(scheduler.Fault(first), nullptr) << "too late is not good";
}

TEST(StreamScheduler, OneChunkThatHangsAmongOthersFailsOnlyItsOwn) {
  StreamScheduler scheduler({0},
                            {.depth = 2, .background_depth = 2, .chunk_bytes = kChunk, .max_requests = 8});
  std::vector<StreamChunk> out(static_cast<size_t>(scheduler.capacity()));
  SlotMemory hung(kChunk);
  SlotMemory well(3 * kChunk);
  const StreamRange one = hung.At(0, 0, kChunk);
  const StreamRange three = well.At(0, kChunk, 3 * kChunk);
  const uint64_t first = scheduler.Add({&one, 1}, ReadClass::kDemand, At(0));
  const uint64_t second = scheduler.Add({&three, 1}, ReadClass::kDemand, At(0));
  ASSERT_EQ(scheduler.Take(out, At(0)), 2u);
  scheduler.Finish(out[1].id, out[1].bytes, At(60));
  ASSERT_EQ(scheduler.Take(out, At(60)), 1u);
  LookForStalls(scheduler, 100);
  LookForStalls(scheduler, 110);
  EXPECT_TRUE(scheduler.Done(first));
  EXPECT_FALSE(scheduler.Done(second)) << "the drive answered 50 ms ago";
}

// After SIGSTOP and SIGCONT everything seems late, until what came meanwhile has been taken in.
TEST(StreamScheduler, AProcessThatWasStoppedFailsNothing) {
  StreamScheduler scheduler({0},
                            {.depth = 1, .background_depth = 1, .chunk_bytes = kChunk, .max_requests = 8});
  std::vector<StreamChunk> out(static_cast<size_t>(scheduler.capacity()));
  SlotMemory slot(2 * kChunk);
  const StreamRange range = slot.At(0, 0, 2 * kChunk);
  const uint64_t number = scheduler.Add({&range, 1}, ReadClass::kDemand, At(0));
  ASSERT_EQ(scheduler.Take(out, At(0)), 1u);
  LookForStalls(scheduler, 5000);
  scheduler.Finish(out[0].id, out[0].bytes, At(5001));
  ASSERT_EQ(scheduler.Take(out, At(5001)), 1u);
  LookForStalls(scheduler, 5020);
  EXPECT_FALSE(scheduler.Done(number));
  LookForStalls(scheduler, 9000);
  LookForStalls(scheduler, 9009);
  EXPECT_FALSE(scheduler.Done(number)) << "a new lateness has its own grace";
}

TEST(StreamScheduler, BackgroundLeavesRoomForDemand) {
  StreamScheduler scheduler({0},
                            {.depth = 4, .background_depth = 1, .chunk_bytes = kChunk, .max_requests = 8});
  std::vector<StreamChunk> out(static_cast<size_t>(scheduler.capacity()));
  SlotMemory look(8 * kChunk);
  SlotMemory demand(8 * kChunk);
  const StreamRange one = look.At(0, 0, 8 * kChunk);
  const StreamRange two = demand.At(0, 8 * kChunk, 8 * kChunk);
  scheduler.Add({&one, 1}, ReadClass::kLookAhead, At(0));
  EXPECT_EQ(scheduler.Take(out, At(0)), 1u);
  EXPECT_FALSE(scheduler.Ready());
  scheduler.Add({&two, 1}, ReadClass::kDemand, At(0));
  EXPECT_TRUE(scheduler.Ready());
  EXPECT_EQ(scheduler.Take(out, At(0)), 3u);
}

// A range is cut into whole blocks without gap, overlap or crumb.
TEST(StreamScheduler, ChunksCoverTheEnclosingBlocks) {
  StreamScheduler scheduler({0},
                            {.depth = 64, .background_depth = 1, .chunk_bytes = kChunk, .max_requests = 1});
  std::vector<StreamChunk> out(static_cast<size_t>(scheduler.capacity()));
  for (const auto& [offset, bytes] : {std::pair<int64_t, int64_t>{0, 1},
                                      {4095, 2},
                                      {5000, 6 * kChunk},
                                      {kChunk, kChunk},
                                      {1, 5 * kChunk + 4097}}) {
    SlotMemory slot(bytes);
    const StreamRange range = slot.At(0, offset, bytes);
    const uint64_t number = scheduler.Add({&range, 1}, ReadClass::kDemand, At(0));
    const size_t count = scheduler.Take(out, At(0));
    int64_t at = offset / kStreamBlock * kStreamBlock;
    for (size_t i = 0; i < count; ++i) {
      EXPECT_EQ(out[i].offset, at);
      EXPECT_EQ(out[i].to - range.to, at - offset);
      EXPECT_EQ(out[i].bytes % kStreamBlock, 0);
      EXPECT_TRUE(count == 1 || 4 * out[i].bytes >= kChunk) << out[i].bytes;
      at += i + 1 < count ? out[i].bytes : out[i].needed;
      scheduler.Finish(out[i].id, out[i].bytes, At(0));
    }
    EXPECT_EQ(at, offset + bytes);
    scheduler.Release(number);
  }
}

}  // namespace
}  // namespace moraine
