// storage/streamer.h where the system refuses something, or the files change under it. Each case runs in a
// process of its own, whose limits it lowers.
#include <fcntl.h>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "storage/streamer.h"
#include "tests/support/in_child.h"
#include "tests/support/stream_case.h"

namespace moraine {
namespace {

namespace fs = std::filesystem;
using std::chrono::hours;
using std::chrono::milliseconds;
using test::InChild;
using test::SlotMemory;
using test::StreamCase;
using test::WriteFile;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int64_t kBytes = 300'000;

// Reads a range off the streamer; what was wrong with that, "" for nothing.
std::string ReadSome(const StreamCase& disk, Streamer& streamer) {
  SlotMemory slot(200'000);
  const StreamRange range = slot.At(0, 5'000, 200'000);
  const Ticket ticket = streamer.Read({&range, 1}, ReadClass::kDemand);
  const Status status = ticket.Wait();
  if (!status.has_value()) return status.error().message;
  return disk.Holds(range) ? "" : "wrong bytes";
}

// One line about a streamer opened here and now: how it reads, its notices, what went wrong.
std::string Report(const StreamCase& disk, const StreamerOptions& options) {
  const auto streamer = Streamer::Open(disk.files(), options);
  if (!streamer.has_value())
    return fmt::format("not opened ({}): {}", ExitCode(streamer.error().kind), streamer.error().message);
  const std::string wrong = ReadSome(disk, **streamer) + ReadSome(disk, **streamer);
  std::string report = (*streamer)->Describe();
  for (const std::string& notice : (*streamer)->Notices()) report += "; notice: " + notice;
  return wrong.empty() ? report : report + "; wrong: " + wrong;
}

class StreamSystem : public ::testing::Test {
 protected:
  void SetUp() override { fs::permissions(fs::path(disk_.path(0)).parent_path(), fs::perms(0755)); }
  StreamCase disk_{{kBytes}};
};

TEST_F(StreamSystem, IoUringRefusedMeansThreadsAndIsSaidOnce) {
  const std::pair<int, std::string> cases[] = {
      {EPERM, "kernel.io_uring_disabled"}, {ENOSYS, "this kernel has none"}, {ENOMEM, "no memory for it"}};
  for (const auto& [error, why] : cases) {
    const std::string report = InChild([&, call = error] {
      if (!test::ForbidCall(SYS_io_uring_setup, call)) return std::string("seccomp is not to be had");
      return Report(disk_, {.depth = 3, .background_depth = 3});
    });
    if (report == "seccomp is not to be had") GTEST_SKIP() << report;
    EXPECT_THAT(report, AllOf(HasSubstr("pread on 3 threads"), HasSubstr("notice: io_uring is refused"),
                              HasSubstr(why), ::testing::Not(HasSubstr("wrong:"))));
  }
}

TEST_F(StreamSystem, IoUringDemandedAndRefusedIsAnError) {
  const std::string report = InChild([&] {
    if (!test::ForbidCall(SYS_io_uring_setup, EPERM)) return std::string("seccomp is not to be had");
    return Report(disk_, {.backend = StreamBackendKind::kUring});
  });
  if (report == "seccomp is not to be had") GTEST_SKIP() << report;
  EXPECT_THAT(report, HasSubstr("not opened (4): io_uring is refused"));
}

TEST_F(StreamSystem, DirectReadsRefusedMeansThePageCacheAndIsSaidOnce) {
  const std::string report = InChild([&] {
    if (!test::ForbidCall(SYS_openat, EINVAL, 2, O_DIRECT)) return std::string("seccomp is not to be had");
    return Report(disk_, {});
  });
  if (report == "seccomp is not to be had") GTEST_SKIP() << report;
  EXPECT_THAT(report, AllOf(HasSubstr("through the page cache"), HasSubstr("refuses O_DIRECT"),
                            ::testing::Not(HasSubstr("wrong:"))));
}

// tmpfs takes O_DIRECT from Linux 6.6 on and refuses it before: either way the bytes come.
TEST_F(StreamSystem, TmpfsIsRead) {
  if (::access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "no /dev/shm";
  const std::string path = fmt::format("/dev/shm/moraine-test-{}", ::getpid());
  WriteFile(path, test::ReadFile(disk_.path(0)));
  std::vector<File> files;
  files.push_back(std::move(*File::Open(path)));
  ::unlink(path.c_str());
  WriteFile(path, "");
  EXPECT_FALSE(Streamer::Open(files, {}).has_value()) << "another file stands there now";
  ::unlink(path.c_str());
  WriteFile(path, test::ReadFile(disk_.path(0)));
  files.front() = std::move(*File::Open(path));
  for (const StreamBackendKind backend : {StreamBackendKind::kAuto, StreamBackendKind::kPread}) {
    auto streamer = Streamer::Open(files, {.backend = backend});
    ASSERT_TRUE(streamer.has_value()) << streamer.error().message;
    EXPECT_EQ(ReadSome(disk_, **streamer), "");
    const bool direct = (*streamer)->Describe().find("O_DIRECT") != std::string::npos;
    EXPECT_EQ((*streamer)->Notices().size(), direct ? 0u : 1u);
  }
  ::unlink(path.c_str());
}

TEST_F(StreamSystem, LittleLockedMemoryMeansUnregisteredAndIsSaidOnce) {
  const std::string report = InChild([&] {
    if (!test::BecomeNobody() || !test::Limit(RLIMIT_MEMLOCK, 64 << 10)) return std::string("not to be had");
    SlotMemory slots(1 << 20);
    const StreamRange all = slots.At(0, 0, 1 << 20);
    return Report(disk_, {.memory = {{all.to, static_cast<size_t>(all.bytes)}}});
  });
  if (report.find("io_uring,") != 0) GTEST_SKIP() << report;
  EXPECT_THAT(report, AllOf(HasSubstr("notice: the expert slots are not registered"),
                            HasSubstr("the limit is 64 KiB"), ::testing::Not(HasSubstr("buffers registered")),
                            ::testing::Not(HasSubstr("wrong:"))));
}

TEST_F(StreamSystem, RegisteredMemoryIsUsed) {
  SlotMemory slots(1 << 20);
  const StreamRange all = slots.At(0, 0, kBytes);
  auto streamer = disk_.Open({.depth = 2, .background_depth = 1, .memory = {{all.to, 1 << 20}}});
  if (streamer->Describe().find("buffers registered") == std::string::npos)
    GTEST_SKIP() << streamer->Describe() << ": " << streamer->Notices().front();
  const Ticket ticket = streamer->Read({&all, 1}, ReadClass::kDemand);
  ASSERT_TRUE(ticket.Wait().has_value());
  EXPECT_TRUE(disk_.Holds(all));
  EXPECT_EQ(ReadSome(disk_, *streamer), "") << "memory elsewhere works as well";
}

// Whatever number of descriptors is left: it opens and reads, or says what is short.
TEST_F(StreamSystem, NoDescriptorsLeft) {
  int opened = 0;
  int refused = 0;
  for (unsigned long long left = 0; left < 6; ++left) {
    const std::string report = InChild([&] {
      const int next = ::dup(0);
      ::close(next);
      if (!test::Limit(RLIMIT_NOFILE, static_cast<unsigned long long>(next) + left))
        return std::string("no limit");
      return Report(disk_, {});
    });
    if (report.find("not opened") == 0) {
      ++refused;
      EXPECT_THAT(report, AllOf(HasSubstr("(5)"), HasSubstr("ulimit -n")));
    } else {
      ++opened;
      EXPECT_THAT(report, ::testing::Not(HasSubstr("wrong:")));
    }
  }
  EXPECT_GT(opened, 0);
  EXPECT_GT(refused, 0);
}

TEST_F(StreamSystem, NoThreadsLeft) {
  const std::string report = InChild([&] {
    if (!test::BecomeNobody() || !test::Limit(RLIMIT_NPROC, 0)) return std::string("not to be had");
    return Report(disk_, {.backend = StreamBackendKind::kPread});
  });
  EXPECT_THAT(report, AllOf(HasSubstr("not opened (5)"), HasSubstr("threads")));
}

// A look at the file before every read.
TEST_F(StreamSystem, AChangedFileIsNotReadAnyMore) {
  const std::pair<std::string, std::function<void(const std::string&)>> changes[] = {
      {"truncated", [](const std::string& path) { fs::resize_file(path, 1000); }},
      {"appended to", [](const std::string& path) { fs::resize_file(path, kBytes + 1); }},
      {"replaced",
       [](const std::string& path) {
         WriteFile(path + ".new", test::ReadFile(path));
         fs::rename(path + ".new", path);
       }},
      {"deleted", [](const std::string& path) { fs::remove(path); }},
  };
  for (const auto& [name, change] : changes) {
    StreamCase disk({kBytes, kBytes});
    auto streamer = disk.Open({.check_every = milliseconds(0)});
    EXPECT_EQ(ReadSome(disk, *streamer), "");
    change(disk.path(0));
    const std::string error = ReadSome(disk, *streamer);
    EXPECT_THAT(error, HasSubstr(disk.path(0))) << name;
    EXPECT_THAT(error,
                ::testing::AnyOf(HasSubstr("changed after it was opened"), HasSubstr("gone from its path")))
        << name;
    EXPECT_EQ(ReadSome(disk, *streamer), error) << name << ": for good";
    SlotMemory slot(kBytes);
    const StreamRange whole = slot.At(1, 0, kBytes);
    EXPECT_TRUE(streamer->Read({&whole, 1}, ReadClass::kDemand).Wait().has_value()) << "the other is well";
    EXPECT_TRUE(disk.Holds(whole));
  }
}

// Between two looks: the missing bytes are noticed, and why they are missing.
TEST_F(StreamSystem, ATruncatedFileIsNoticedByItsMissingBytes) {
  for (const StreamBackendKind backend : {StreamBackendKind::kAuto, StreamBackendKind::kPread}) {
    StreamCase disk({kBytes});
    auto streamer = disk.Open({.backend = backend, .check_every = hours(1)});
    EXPECT_EQ(ReadSome(disk, *streamer), "");
    fs::resize_file(disk.path(0), 20'000);
    EXPECT_THAT(ReadSome(disk, *streamer),
                AllOf(HasSubstr(disk.path(0)), HasSubstr("at offset 16384: got 3616: the file ends there"),
                      HasSubstr("changed after it was opened: 300000 bytes")));
    EXPECT_EQ(streamer->stats().retries, 0);
  }
}

}  // namespace
}  // namespace moraine
