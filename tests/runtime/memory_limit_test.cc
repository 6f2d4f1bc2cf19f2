// runtime/memory_limit.h on made-up /proc and /sys.
#include "runtime/memory_limit.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "tests/support/temp_folder.h"

namespace moraine {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;

struct Root {
  Root() {
    Put("proc/meminfo", "MemTotal: 33554432 kB\nMemFree: 1 kB\nMemAvailable: 16777216 kB\n");
    Put("proc/self/statm", "900 " + std::to_string(kGiB / sysconf(_SC_PAGESIZE)) + " 3\n");
  }
  void Put(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(folder / path).parent_path());
    test::WriteFile(folder / path, text);
  }
  // A group's limit, what is used of it, and how much of that is page cache.
  void PutV2(const std::string& group, const std::string& max, int64_t used, int64_t cache) const {
    const std::string at = "sys/fs/cgroup" + group;
    Put(at + "/memory.max", max + "\n");
    Put(at + "/memory.current", std::to_string(used) + "\n");
    Put(at + "/memory.stat", "anon 5\ninactive_file " + std::to_string(cache / 2) + "\nactive_file " +
                                 std::to_string(cache - cache / 2) + "\nslab_reclaimable 0\n");
  }
  MemoryLimit Find() const {
    const auto limit = FindMemoryLimit(folder.path());
    EXPECT_TRUE(limit.has_value()) << limit.error().message;
    return *limit;
  }
  test::TempFolder folder;
};

TEST(MemoryLimit, WithoutGroupsIsWhatTheKernelCanGiveAndWhatIsHeld) {
  const Root root;
  EXPECT_EQ(root.Find().bytes, 17 * kGiB);
  EXPECT_EQ(root.Find().source, "MemAvailable");
  EXPECT_FALSE(CgroupMemoryLimit(root.folder.path()));
}

TEST(MemoryLimit, TheTightestAncestorCountsAndPageCacheGivesWay) {
  const Root root;
  root.Put("proc/self/cgroup", "0::/user/job\n");
  root.PutV2("/user/job", "max", 2 * kGiB, 0);
  EXPECT_EQ(root.Find().bytes, 17 * kGiB);
  // 8 - (6 - 4 of cache) is free, and 1 is ours already.
  root.PutV2("/user", std::to_string(8 * kGiB), 6 * kGiB, 4 * kGiB);
  EXPECT_EQ(root.Find().bytes, 7 * kGiB);
  EXPECT_EQ(root.Find().source, "cgroup " + (root.folder / "sys/fs/cgroup/user"));
  root.PutV2("/user/job", std::to_string(4 * kGiB), 1 * kGiB, 0);
  EXPECT_EQ(root.Find().bytes, 4 * kGiB);
}

TEST(MemoryLimit, VersionOneIsReadTheSameWay) {
  const Root root;
  root.Put("proc/self/cgroup", "4:memory:/a\n0::/\n");
  root.Put("sys/fs/cgroup/memory/a/memory.limit_in_bytes", std::to_string(8 * kGiB) + "\n");
  root.Put("sys/fs/cgroup/memory/a/memory.usage_in_bytes", std::to_string(6 * kGiB) + "\n");
  root.Put("sys/fs/cgroup/memory/a/memory.stat",
           "inactive_file 1\ntotal_inactive_file " + std::to_string(3 * kGiB) + "\ntotal_active_file 0\n");
  root.Put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  root.Put("sys/fs/cgroup/memory/memory.usage_in_bytes", std::to_string(20 * kGiB) + "\n");
  EXPECT_EQ(root.Find().bytes, 6 * kGiB);
}

TEST(MemoryLimit, AGroupThatIsFullLeavesWhatIsHeld) {
  const Root root;
  root.Put("proc/self/cgroup", "0::/\n");
  root.PutV2("", std::to_string(2 * kGiB), 3 * kGiB, 0);
  EXPECT_EQ(root.Find().bytes, 0) << "over its limit already";
  root.PutV2("", std::to_string(2 * kGiB), 2 * kGiB, 0);
  EXPECT_EQ(root.Find().bytes, 1 * kGiB);
}

TEST(MemoryLimit, WithoutMeminfoSaysWhatToDo) {
  const test::TempFolder empty;
  const auto limit = FindMemoryLimit(empty.path());
  ASSERT_FALSE(limit.has_value());
  EXPECT_EQ(limit.error().kind, ErrorKind::kHardware);
  EXPECT_NE(limit.error().message.find("--ram"), std::string::npos);
}

TEST(MemoryLimit, OfThisMachineIsPlausible) {
  const auto limit = FindMemoryLimit();
  ASSERT_TRUE(limit.has_value()) << limit.error().message;
  EXPECT_GT(limit->bytes, ResidentBytes());
  EXPECT_GT(ResidentBytes(), int64_t{1} << 20);
}

}  // namespace
}  // namespace moraine
