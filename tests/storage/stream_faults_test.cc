// storage/streamer.h over a drive that fails: what is retried, what is surfaced, and what goes on regardless.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "storage/streamer.h"
#include "tests/support/faulty_backend.h"
#include "tests/support/stream_case.h"

namespace moraine {
namespace {

using std::chrono::milliseconds;
using test::Answer;
using test::FaultyBackend;
using test::SlotMemory;
using test::StreamCase;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kChunk = 64 << 10;

// One file of 1 MiB and a bit, read in chunks of 64 KiB through a drive that behaves as told.
class StreamFaults : public ::testing::Test {
 protected:
  void Open(FaultyBackend::Script script, StreamerOptions options = {.depth = 4, .background_depth = 4},
            bool newest_first = false) {
    options.chunk_bytes = kChunk;
    auto backend = std::make_unique<FaultyBackend>(std::move(script), newest_first);
    drive_ = backend.get();
    streamer_ = disk_.Open(options, std::move(backend));
  }

  Ticket Read(const StreamRange& range) { return streamer_->Read({&range, 1}, ReadClass::kDemand); }

  // Reads the range, which must come, and be right.
  void ExpectGood(const StreamRange& range) {
    const Ticket ticket = Read(range);
    const Status status = ticket.Wait();
    EXPECT_TRUE(status.has_value()) << status.error().message;
    EXPECT_TRUE(disk_.Holds(range));
    streamer_->Release(ticket.number());
  }

  // Reads the range, which must fail; the error's text.
  std::string ErrorOf(const StreamRange& range) {
    const Ticket ticket = Read(range);
    const Status status = ticket.Wait();
    EXPECT_FALSE(status.has_value());
    if (status.has_value()) return "";
    EXPECT_EQ(status.error().kind, ErrorKind::kIo);
    EXPECT_EQ(ticket.Wait().error().message, status.error().message) << "asked again";
    streamer_->Release(ticket.number());
    return status.error().message;
  }

  StreamCase disk_{{kMiB + 777}};
  SlotMemory slot_{kMiB + 777};
  SlotMemory other_{kMiB};
  FaultyBackend* drive_ = nullptr;
  std::unique_ptr<Streamer> streamer_;
};

FaultyBackend::Script FirstTime(int error) {
  return [error, first = true](const ChunkRead&) mutable {
    return Answer{.error = std::exchange(first, false) ? error : 0};
  };
}

TEST_F(StreamFaults, EioOnceIsTriedAgain) {
  Open(FirstTime(EIO));
  ExpectGood(slot_.At(0, 5000, 200'000));
  EXPECT_EQ(streamer_->stats().retries, 1);
  EXPECT_EQ(streamer_->stats().errors, 0);
}

TEST_F(StreamFaults, WhatIsInterruptedOrShortOfMeansIsTriedAgain) {
  for (const int error : {EAGAIN, EINTR, ECANCELED, ENOMEM, EBUSY}) {
    Open(FirstTime(error));
    ExpectGood(slot_.At(0, 0, kMiB));
    EXPECT_EQ(streamer_->stats().retries, 1) << error;
  }
}

TEST_F(StreamFaults, OtherErrorsAreNot) {
  Open(FirstTime(EBADF));
  EXPECT_THAT(ErrorOf(slot_.At(0, 0, 100)), HasSubstr("Bad file descriptor"));
  EXPECT_EQ(streamer_->stats().retries, 0);
}

// A bad place on the drive: whoever needs it gets an error that names it, everybody else goes on.
TEST_F(StreamFaults, EioForGoodNamesTheChunkAndStopsNobodyElse) {
  constexpr int64_t kBad = 3 * kChunk;
  Open([](const ChunkRead& read) {
    return Answer{.error = read.offset <= kBad && kBad < read.offset + read.bytes ? EIO : 0};
  });
  const StreamRange good = other_.At(0, 6 * kChunk, 2 * kChunk);
  const Ticket waiting = Read(good);
  EXPECT_THAT(ErrorOf(slot_.At(0, 100, kMiB)),
              AllOf(HasSubstr(disk_.path(0)), HasSubstr("reading 65536 bytes at offset 196608: got 0"),
                    HasSubstr("Input/output error"), HasSubstr("tried 4 times")));
  EXPECT_TRUE(waiting.Wait().has_value());
  EXPECT_TRUE(disk_.Holds(good));
  streamer_->Release(waiting.number());
  ExpectGood(slot_.At(0, 0, 3 * kChunk));
  EXPECT_EQ(streamer_->stats().errors, 1);
  EXPECT_EQ(streamer_->stats().retries, 3);
}

TEST_F(StreamFaults, RetriesCanBeForbidden) {
  Open(FirstTime(EIO), {.depth = 1, .background_depth = 1, .retries = 0});
  EXPECT_THAT(ErrorOf(slot_.At(0, 0, 100)), Not(HasSubstr("tried")));
}

TEST_F(StreamFaults, ShortReadsAreGoneOnWith) {
  Open([](const ChunkRead& read) { return Answer{.most = read.bytes > 8192 ? 8192 + 17 : read.bytes}; });
  ExpectGood(slot_.At(0, 4100, 300'000));
  EXPECT_GT(streamer_->stats().short_reads, 30);
  EXPECT_EQ(streamer_->stats().retries, 0);
}

// Less than a block cannot be gone on from: that block is read again.
TEST_F(StreamFaults, LessThanABlockIsTriedAgain) {
  Open([first = true](const ChunkRead&) mutable {
    return Answer{.most = std::exchange(first, false) ? 100 : INT64_MAX};
  });
  ExpectGood(slot_.At(0, 0, 5000));
  EXPECT_EQ(streamer_->stats().retries, 1);
}

TEST_F(StreamFaults, TheLastBlockOfAFileMayComeShort) {
  Open([](const ChunkRead&) { return Answer{}; });
  ExpectGood(slot_.At(0, kMiB + 700, 77));
  EXPECT_EQ(streamer_->stats().short_reads, 0);
  EXPECT_EQ(streamer_->stats().retries, 0);
}

// io_uring calls neither an error.
TEST_F(StreamFaults, NothingAtAllIsAnError) {
  Open([](const ChunkRead&) { return Answer{.most = 0}; });
  EXPECT_THAT(
      ErrorOf(slot_.At(0, 0, 5000)),
      AllOf(HasSubstr("reading 5000 bytes at offset 0: got 0: the file ends there"), HasSubstr("tried 4")));
}

TEST_F(StreamFaults, AByteTooFewIsAnError) {
  Open([](const ChunkRead&) { return Answer{.most = 999}; });
  EXPECT_THAT(ErrorOf(slot_.At(0, 0, 1000)), HasSubstr("reading 1000 bytes at offset 0: got 999"));
}

TEST_F(StreamFaults, LateAndOutOfOrder) {
  Open([n = 0](const ChunkRead&) mutable { return Answer{.late = milliseconds(n++ % 3)}; },
       {.depth = 8, .background_depth = 8}, true);
  const StreamRange first = slot_.At(0, 1, kMiB - 1);
  const StreamRange second = other_.At(0, 70'000, 500'000);
  const Ticket one = Read(first);
  const Ticket two = Read(second);
  EXPECT_TRUE(two.Wait().has_value());
  EXPECT_TRUE(one.Wait().has_value());
  EXPECT_TRUE(disk_.Holds(first) && disk_.Holds(second));
}

// A drive a hundred times as slow still answers: nobody gives up on it while something comes. All of it takes
// longer than the timeout.
TEST_F(StreamFaults, SlowIsNotHung) {
  Open([](const ChunkRead&) { return Answer{.late = milliseconds(20)}; },
       {.depth = 1, .background_depth = 1, .stall_timeout = milliseconds(300)});
  ExpectGood(slot_.At(0, 0, kMiB));
  EXPECT_EQ(streamer_->stats().stalls, 0);
}

TEST_F(StreamFaults, AHungDriveIsAnErrorAndItsMemoryIsNotReleased) {
  Open([](const ChunkRead& read) { return Answer{.hang = read.offset == 2 * kChunk}; },
       {.depth = 4, .background_depth = 4, .stall_timeout = milliseconds(50)});
  const Ticket hung = Read(slot_.At(0, kChunk, 3 * kChunk));
  const Status status = hung.Wait();
  ASSERT_FALSE(status.has_value());
  EXPECT_THAT(status.error().message,
              AllOf(HasSubstr(disk_.path(0)),
                    HasSubstr("reading 65536 bytes at offset 131072: nothing came for 50 ms")));
  EXPECT_TRUE(hung.Done());
  EXPECT_FALSE(streamer_->Settled(hung.number())) << "the drive may still write there";
  EXPECT_EQ(streamer_->stats().stalls, 1);

  ExpectGood(other_.At(0, 5 * kChunk, 100'000));

  drive_->LetGo();
  while (!streamer_->Settled(hung.number())) std::this_thread::yield();
  streamer_->Release(hung.number());
}

TEST_F(StreamFaults, WhatQueuesBehindAHungDriveFailsToo) {
  Open([](const ChunkRead&) { return Answer{.hang = true}; },
       {.depth = 2, .background_depth = 2, .stall_timeout = milliseconds(50)});
  const Ticket hung = Read(slot_.At(0, 0, 2 * kChunk));
  drive_->AwaitSeen(2);
  const Ticket behind = Read(other_.At(0, 4 * kChunk, 100));
  EXPECT_FALSE(behind.Wait().has_value());
  EXPECT_TRUE(streamer_->Settled(behind.number())) << "nothing of it was started";
  EXPECT_FALSE(hung.Wait().has_value());
  drive_->LetGo();
  while (!streamer_->Settled(hung.number())) std::this_thread::yield();
  streamer_->Release(hung.number());
  streamer_->Release(behind.number());
  ExpectGood(slot_.At(0, 0, kMiB));
}

TEST_F(StreamFaults, ADoneThatIsPolledNoticesTheHangToo) {
  Open([](const ChunkRead&) { return Answer{.hang = true}; },
       {.depth = 1, .background_depth = 1, .stall_timeout = milliseconds(20)});
  const Ticket ticket = Read(slot_.At(0, 0, 100));
  while (!ticket.Done()) std::this_thread::yield();
  EXPECT_FALSE(ticket.Wait().has_value());
  drive_->LetGo();
}

// What is under way writes into the caller's memory, so the end waits for it; the rest is never started.
TEST_F(StreamFaults, TheDestructorDrains) {
  Open([](const ChunkRead&) { return Answer{.hang = true}; }, {.depth = 2, .background_depth = 2});
  Read(slot_.At(0, 0, kMiB));
  Read(other_.At(0, 0, kMiB));
  drive_->AwaitSeen(2);
  std::atomic<bool> ended{false};
  std::thread end([&] {
    streamer_.reset();
    ended = true;
  });
  std::this_thread::sleep_for(milliseconds(20));
  EXPECT_FALSE(ended);
  drive_->LetGo();
  end.join();
}

// The file system took O_DIRECT when the file was opened and refuses the reads.
TEST_F(StreamFaults, RefusedDirectReadsGoThroughThePageCacheAndAreSaidOnce) {
  std::vector<int> refused;
  Open([&refused](const ChunkRead& read) {
    if (refused.empty()) refused.push_back(read.fd);
    return Answer{.error = read.fd == refused.front() ? EINVAL : 0};
  });
  EXPECT_THAT(streamer_->Describe(), HasSubstr("O_DIRECT"));
  ASSERT_THAT(streamer_->Notices(), IsEmpty());
  ExpectGood(slot_.At(0, 0, kMiB));
  ExpectGood(slot_.At(0, 0, kMiB));
  EXPECT_THAT(streamer_->Describe(), HasSubstr("through the page cache"));
  EXPECT_THAT(streamer_->Notices(), ::testing::ElementsAre(HasSubstr(disk_.path(0))));
  EXPECT_EQ(streamer_->stats().retries, 0);
}

TEST_F(StreamFaults, ADroppedRequestInTroubleIsNotTriedForEver) {
  Open([](const ChunkRead&) { return Answer{.error = EAGAIN}; },
       {.depth = 1, .background_depth = 1, .retries = 1'000'000});
  const Ticket ticket = Read(slot_.At(0, 0, kMiB));
  drive_->AwaitSeen(3);
  EXPECT_FALSE(streamer_->Drop(ticket.number()));
  EXPECT_EQ(ticket.Wait().error().kind, ErrorKind::kInterrupted);
}

}  // namespace
}  // namespace moraine
