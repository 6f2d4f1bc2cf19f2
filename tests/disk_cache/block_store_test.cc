// runtime/disk_cache/block_store.h: a block is found whole or not at all, whatever happens to its folder.
#include "runtime/disk_cache/block_store.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>
#include <vector>

#include "tests/support/in_child.h"
#include "tests/support/temp_folder.h"

namespace moraine::test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr int64_t kCap = 1 << 20;
constexpr size_t kBytes = 1000;
constexpr int64_t kOnDrive = BlockStore::kHeaderBytes + kBytes;

Digest Name(int64_t number) { return Sha256().AddField(number).Finish(); }

std::vector<std::byte> Content(int64_t number) {
  std::vector<std::byte> bytes(kBytes);
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(static_cast<size_t>(number) * 31 + i * 7 + i / 256);
  return bytes;
}

std::unique_ptr<BlockStore> Open(const std::string& folder, int64_t cap = kCap) {
  auto store = BlockStore::Open(folder, cap);
  EXPECT_TRUE(store.has_value()) << store.error().message;
  return std::move(store).value();
}

BlockRead Read(const BlockStore& store, int64_t number) {
  std::vector<std::byte> out(kBytes);
  const BlockRead read = store.Read(Name(number), out);
  EXPECT_TRUE(read != BlockRead::kFound || out == Content(number)) << number;
  return read;
}

std::string PathOf(const std::string& folder, int64_t number) {
  return folder + "/" + Hex(Name(number)) + ".kv";
}

size_t Files(const std::string& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

void Age(const std::string& path, int64_t seconds) {
  const timespec then = {.tv_sec = std::time(nullptr) - seconds, .tv_nsec = 0};
  const timespec times[] = {then, then};
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
}

TEST(BlockStore, FindsWhatWasWrittenAlsoWhenOpenedAgain) {
  const TempFolder parent;
  const std::string folder = parent / "blocks";
  {
    const auto store = Open(folder);
    EXPECT_EQ(Read(*store, 1), BlockRead::kMissing);
    EXPECT_FALSE(store->Has(Name(1)));
    ASSERT_TRUE(store->Write(Name(1), Content(1)).has_value());
    EXPECT_EQ(Read(*store, 1), BlockRead::kFound);
    EXPECT_EQ(store->bytes(), kOnDrive);
  }
  struct stat found = {};
  ASSERT_EQ(::stat(folder.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777u, 0700u);
  ASSERT_EQ(::stat(PathOf(folder, 1).c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777u, 0600u);
  const auto again = Open(folder);
  EXPECT_TRUE(again->Has(Name(1)));
  EXPECT_EQ(Read(*again, 1), BlockRead::kFound);
  EXPECT_EQ(again->bytes(), kOnDrive);
}

// Every byte of the header, and some of the content: changed, cut off, or one too many.
TEST(BlockStore, WhatIsTornOrChangedIsRefusedAndRemoved) {
  const TempFolder parent;
  const std::string folder = parent / "blocks";
  const auto store = Open(folder);
  ASSERT_TRUE(store->Write(Name(1), Content(1)).has_value());
  const std::string whole = ReadFile(PathOf(folder, 1));
  ASSERT_EQ(whole.size(), static_cast<size_t>(kOnDrive));
  std::vector<std::string> spoiled = {"", whole + "x", std::string(whole.size(), '\0')};
  for (size_t at = 0; at < whole.size(); at += at < 80 ? 1 : 97) {
    spoiled.push_back(whole);
    spoiled.back()[at] = static_cast<char>(spoiled.back()[at] ^ 4);
    spoiled.push_back(whole.substr(0, at));
  }
  for (const std::string& text : spoiled) {
    WriteFile(PathOf(folder, 1), text);
    EXPECT_EQ(Read(*store, 1), BlockRead::kBroken);
    EXPECT_FALSE(store->Has(Name(1)));
  }
  // Under another's name it is not that other.
  WriteFile(PathOf(folder, 2), whole);
  EXPECT_EQ(Read(*store, 2), BlockRead::kBroken);
  // The test would notice if nothing were ever found.
  WriteFile(PathOf(folder, 1), whole);
  EXPECT_EQ(Read(*store, 1), BlockRead::kFound);
}

TEST(BlockStore, WhatIsNoFileIsNotFollowed) {
  const TempFolder parent;
  const std::string folder = parent / "blocks";
  const auto store = Open(folder);
  ASSERT_TRUE(store->Write(Name(1), Content(1)).has_value());
  fs::rename(PathOf(folder, 1), parent / "elsewhere");
  fs::create_symlink(parent / "elsewhere", PathOf(folder, 1));
  EXPECT_EQ(Read(*store, 1), BlockRead::kBroken);
  EXPECT_TRUE(fs::exists(parent / "elsewhere"));
  ASSERT_EQ(::mkfifo(PathOf(folder, 3).c_str(), 0600), 0);
  EXPECT_EQ(Read(*store, 3), BlockRead::kBroken);
}

TEST(BlockStore, AFolderOfOthersIsRefusedWithTheReason) {
  const TempFolder parent;
  const auto refused = [&](const std::string& folder) {
    const auto store = BlockStore::Open(folder, kCap);
    EXPECT_FALSE(store.has_value());
    EXPECT_EQ(store.error().kind, ErrorKind::kUsage);
    EXPECT_THAT(store.error().message, HasSubstr(folder));
    return store.error().message;
  };
  ASSERT_EQ(::mkdir((parent / "open").c_str(), 0700), 0);
  for (const mode_t mode : {0750, 0701, 0777}) {
    ASSERT_EQ(::chmod((parent / "open").c_str(), mode), 0);
    EXPECT_THAT(refused(parent / "open"), HasSubstr(fmt::format("mode {:04o}", mode)));
  }
  ASSERT_EQ(::chmod((parent / "open").c_str(), 0700), 0);
  fs::create_symlink(parent / "open", parent / "link");
  EXPECT_THAT(refused(parent / "link"), HasSubstr("a link"));
  WriteFile(parent / "file", "x");
  EXPECT_THAT(refused(parent / "file"), HasSubstr("no folder"));
  EXPECT_EQ(BlockStore::Open(parent / "missing/blocks", kCap).error().kind, ErrorKind::kIo);
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a folder away";
  ASSERT_EQ(::chown((parent / "open").c_str(), 1, 1), 0);
  EXPECT_THAT(refused(parent / "open"), HasSubstr("belongs to user 1"));
}

TEST(BlockStore, TheCapIsKeptAndWhatWasUsedLastStays) {
  const TempFolder parent;
  const std::string folder = parent / "blocks";
  const auto store = Open(folder, 10 * kOnDrive);
  for (int64_t i = 0; i < 10; ++i) {
    ASSERT_TRUE(store->Write(Name(i), Content(i)).has_value());
    Age(PathOf(folder, i), 1000 - i);
  }
  EXPECT_EQ(Files(folder), 10u);
  store->Touch(Name(0));
  ASSERT_TRUE(store->Write(Name(10), Content(10)).has_value());
  EXPECT_LE(store->bytes(), store->cap());
  EXPECT_GT(store->removed(), 0);
  EXPECT_TRUE(store->Has(Name(0)));
  EXPECT_FALSE(store->Has(Name(1)));
  EXPECT_TRUE(store->Has(Name(9)));
  EXPECT_TRUE(store->Has(Name(10)));
  store->SetCap(3 * kOnDrive);
  ASSERT_TRUE(store->Write(Name(11), Content(11)).has_value());
  EXPECT_LE(Files(folder), 3u);
  EXPECT_TRUE(store->Has(Name(11)));
  store->SetCap(10);
  EXPECT_THAT(store->Write(Name(12), Content(12)).error().message, HasSubstr("all may take 10"));
}

// Strangers' files are neither counted nor removed.
TEST(BlockStore, LeavesOtherFilesAlone) {
  const TempFolder parent;
  const std::string folder = parent / "blocks";
  { Open(folder); }
  WriteFile(folder + "/notes.txt", std::string(5000, 'x'));
  const auto store = Open(folder, 2 * kOnDrive);
  EXPECT_EQ(store->bytes(), 0);
  for (int64_t i = 0; i < 5; ++i) ASSERT_TRUE(store->Write(Name(i), Content(i)).has_value());
  EXPECT_TRUE(fs::exists(folder + "/notes.txt"));
}

TEST(BlockStore, WhatKilledWritersLeftGoesAndWhatOthersWriteStays) {
  const TempFolder parent;
  const std::string folder = parent / "blocks";
  { Open(folder); }
  const std::string left = folder + "/unfinished-0000000000000001";
  const std::string held = folder + "/unfinished-0000000000000002";
  const std::string young = folder + "/unfinished-0000000000000003";
  for (const std::string& path : {left, held, young}) WriteFile(path, "x");
  Age(left, 3600);
  Age(held, 3600);
  const Handle<FdTraits> writer(::open(held.c_str(), O_WRONLY | O_CLOEXEC));
  ASSERT_EQ(::flock(writer.get(), LOCK_EX), 0);
  Open(folder);
  EXPECT_FALSE(fs::exists(left));
  EXPECT_TRUE(fs::exists(held));
  EXPECT_TRUE(fs::exists(young));
}

// A limit on the size of files stands for a full drive: the same call fails in the same place.
TEST(BlockStore, ARefusedWriteLeavesNothing) {
  const TempFolder parent;
  EXPECT_EQ(InChild([&]() -> std::string {
              const auto store = Open(parent / "blocks");
              ::signal(SIGXFSZ, SIG_IGN);
              Limit(RLIMIT_FSIZE, 500);
              const Status written = store->Write(Name(1), Content(1));
              if (written.has_value()) return "written";
              if (written.error().kind != ErrorKind::kIo) return written.error().message;
              if (written.error().message.find("File too large") == std::string::npos)
                return written.error().message;
              if (Files(parent / "blocks") != 0) return "something is left";
              return store->bytes() == 0 ? "" : "it is counted";
            }),
            "");
}

TEST(BlockStore, AFullDriveIsSaidAndWhatIsThereIsStillRead) {
  const TempFolder parent;
  const std::string findings = InChild([&]() -> std::string {
    if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", parent.path().c_str(), "tmpfs", 0, "size=8192,mode=0700") != 0)
      return "no mount";
    const auto store = Open(parent / "blocks");
    Status written;
    int64_t count = 0;
    while (written.has_value() && count < 100) {
      written = store->Write(Name(count), Content(count));
      if (written.has_value()) ++count;
    }
    if (written.has_value()) return "8 KiB held 100 KB";
    if (written.error().message.find("No space left") == std::string::npos) return written.error().message;
    for (int64_t i = 0; i < count; ++i)
      if (Read(*store, i) != BlockRead::kFound) return fmt::format("block {} of {} is lost", i, count);
    return Files(parent / "blocks") == static_cast<size_t>(count) ? "" : "something is left";
  });
  if (findings == "no mount") GTEST_SKIP() << "this user may mount nothing";
  EXPECT_EQ(findings, "");
}

pid_t Writer(const std::string& folder, int64_t first, int64_t cap) {
  const pid_t child = ::fork();
  if (child != 0) return child;
  const auto store = BlockStore::Open(folder, cap);
  if (!store.has_value()) ::_exit(1);
  for (int64_t i = first;; ++i)
    if (!(*store)->Write(Name(i), Content(i)).has_value()) ::_exit(2);
}

TEST(BlockStore, KilledAtAnyMomentNothingTornIsFound) {
  const TempFolder parent;
  const std::string folder = parent / "blocks";
  int64_t found = 0;
  for (int round = 0; round < 12; ++round) {
    const pid_t child = Writer(folder, 0, kCap);
    std::this_thread::sleep_for(std::chrono::milliseconds(3 + 5 * round));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
    const auto store = Open(folder);
    for (int64_t i = 0; store->Has(Name(i)); ++i, ++found) ASSERT_EQ(Read(*store, i), BlockRead::kFound);
  }
  EXPECT_GT(found, 0);
}

TEST(BlockStore, TwoProcessesShareAFolder) {
  const TempFolder parent;
  const std::string folder = parent / "blocks";
  const int64_t cap = 40 * kOnDrive;
  const auto store = Open(folder, cap);
  const pid_t writers[] = {Writer(folder, 0, cap), Writer(folder, 20, cap)};
  int64_t found = 0;
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(400);
  while (std::chrono::steady_clock::now() < until) {
    for (int64_t i = 0; i < 400; ++i) {
      const BlockRead read = Read(*store, i);
      ASSERT_NE(read, BlockRead::kBroken) << i;
      if (read == BlockRead::kFound) ++found;
    }
    for (int64_t i = 0; i < 5; ++i) ASSERT_TRUE(store->Write(Name(i), Content(i)).has_value());
  }
  for (const pid_t writer : writers) {
    int status = 0;
    EXPECT_EQ(::waitpid(writer, &status, WNOHANG), 0) << "a writer met an error";
    ::kill(writer, SIGKILL);
    ::waitpid(writer, &status, 0);
  }
  EXPECT_GT(found, 0);
  ASSERT_TRUE(Open(folder, cap)->Write(Name(1), Content(1)).has_value());
  EXPECT_LE(Open(folder, cap)->bytes(), cap + 2 * kOnDrive);
}

}  // namespace
}  // namespace moraine::test
