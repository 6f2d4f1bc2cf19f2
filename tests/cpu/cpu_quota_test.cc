// cpu/cpu_quota.h on made-up /proc and /sys.
#include "cpu/cpu_quota.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "cpu/topology.h"
#include "tests/support/temp_folder.h"

namespace moraine {
namespace {

struct Root {
  void Put(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(folder / path).parent_path());
    test::WriteFile(folder / path, text);
  }
  test::TempFolder folder;
};

TEST(CpuQuota, TheLeastOfAllAncestorsCounts) {
  const Root root;
  root.Put("proc/self/cgroup", "0::/user/job\n");
  root.Put("sys/fs/cgroup/user/job/cpu.max", "max 100000\n");
  EXPECT_EQ(CpuQuota(root.folder.path()), std::nullopt);
  root.Put("sys/fs/cgroup/user/cpu.max", "150000 100000\n");
  EXPECT_EQ(CpuQuota(root.folder.path()), 1.5);
  root.Put("sys/fs/cgroup/user/job/cpu.max", "400000 100000\n");
  EXPECT_EQ(CpuQuota(root.folder.path()), 1.5);
}

TEST(CpuQuota, AContainerSeesItsOwnGroupAsTheRoot) {
  const Root root;
  root.Put("proc/self/cgroup", "0::/docker/0123\n");
  root.Put("sys/fs/cgroup/cpu.max", "200000 100000\n");
  EXPECT_EQ(CpuQuota(root.folder.path()), 2.0);
}

TEST(CpuQuota, VersionOneIsReadWhereverItIsMounted) {
  const Root root;
  root.Put("proc/self/cgroup", "5:memory:/a\n4:cpu,cpuacct:/a\n");
  root.Put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "-1\n");
  root.Put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(CpuQuota(root.folder.path()), std::nullopt);
  root.Put("sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us", "50000\n");
  EXPECT_EQ(CpuQuota(root.folder.path()), 0.5);
}

TEST(CpuQuota, NothingToReadIsNoLimit) { EXPECT_EQ(CpuQuota(Root().folder.path()), std::nullopt); }

TEST(CpuQuota, WorkersAreOneACoreUpToTheQuota) {
  const auto machine = *Topology::Read("package:2 core:4 pu:2");
  EXPECT_EQ(DefaultWorkers(*machine, std::nullopt), 8);
  EXPECT_EQ(DefaultWorkers(*machine, 2.5), 3);
  EXPECT_EQ(DefaultWorkers(*machine, 0.2), 1);
  EXPECT_EQ(DefaultWorkers(*machine, 64), 8);
}

}  // namespace
}  // namespace moraine
