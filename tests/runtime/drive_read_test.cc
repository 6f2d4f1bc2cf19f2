// runtime/drive_read.h: made-up /sys trees behind a real folder, and this machine's own.
#include "runtime/drive_read.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "tests/support/fake_root.h"

namespace moraine {
namespace {

using testing::Contains;
using testing::HasSubstr;

// A folder that really is there, and a /sys and /proc that say what lies behind it.
struct Machine {
  Machine() { Mounts("/ ext4 /dev/sda1"); }
  // "POINT TYPE SOURCE" each.
  void Mounts(const std::string& one, const std::string& two = "") const {
    std::string text;
    for (const std::string& mount : {one, two}) {
      const size_t blank = mount.find(' ');
      if (!mount.empty())
        text += fmt::format("24 1 8:1 / {} rw,noatime shared:1 - {} rw\n", mount.substr(0, blank),
                            mount.substr(blank + 1));
    }
    root.Put("proc/self/mountinfo", text);
  }
  // What sys/devices/PATH is what the folder lies on.
  void LiesOn(const std::string& path) const {
    struct stat status {};
    ASSERT_EQ(::stat(folder.path().c_str(), &status), 0);
    root.Link(fmt::format("sys/dev/block/{}:{}", major(status.st_dev), minor(status.st_dev)),
              "sys/devices/" + path);
  }
  void Disk(const std::string& path, const std::string& model, const std::string& rotational) const {
    root.Put("sys/devices/" + path + "/queue/rotational", rotational + "\n");
    if (!model.empty()) root.Put("sys/devices/" + path + "/device/model", model + "\n");
  }
  Drive Read() const { return ReadDrive(folder.path(), root.path()); }

  test::FakeRoot root;
  test::TempFolder folder;
};

TEST(DriveRead, APartitionIsItsDrive) {
  const Machine machine;
  machine.Disk("pci/nvme0/nvme0n1", "Samsung SSD 990 PRO 4TB   ", "0");
  machine.root.Put("sys/devices/pci/nvme0/nvme0n1/nvme0n1p2/partition", "2\n");
  machine.LiesOn("pci/nvme0/nvme0n1/nvme0n1p2");
  const Drive drive = machine.Read();
  EXPECT_EQ(drive.device, "nvme0n1");
  EXPECT_EQ(drive.model, "Samsung SSD 990 PRO 4TB");
  EXPECT_EQ(drive.kind, DriveKind::kNvme);
  EXPECT_EQ(drive.devices, 1);
  EXPECT_EQ(drive.filesystem, "ext4");
  EXPECT_EQ(drive.Key(), "nvme0n1, Samsung SSD 990 PRO 4TB, ext4");
  EXPECT_TRUE(drive.notes.empty());
}

TEST(DriveRead, NamesAndRotationTellTheKind) {
  const std::vector<std::tuple<std::string, std::string, std::string, DriveKind>> cases = {
      {"sda", "CT4000MX500SSD1", "0", DriveKind::kSsd},
      {"sdb", "ST8000DM004", "1", DriveKind::kDisk},
      {"vda", "", "1", DriveKind::kVirtual},
      {"sdc", "QEMU HARDDISK", "1", DriveKind::kVirtual},
      {"nvme1n1", "Amazon Elastic Block Store", "0", DriveKind::kVirtual},
      {"nbd0", "", "0", DriveKind::kNetwork},
      {"zram0", "", "0", DriveKind::kMemory},
      {"sdd", "", "", DriveKind::kUnknown}};
  for (const auto& [name, model, rotational, kind] : cases) {
    const Machine machine;
    machine.Disk(name, model, rotational);
    machine.LiesOn(name);
    EXPECT_EQ(machine.Read().kind, kind) << name;
  }
}

TEST(DriveRead, NvmeOverFabricsIsANetwork) {
  const Machine machine;
  machine.Disk("nvme3n1", "Linux", "0");
  machine.root.Put("sys/devices/nvme3n1/device/transport", "tcp\n");
  machine.LiesOn("nvme3n1");
  EXPECT_EQ(machine.Read().kind, DriveKind::kNetwork);
}

TEST(DriveRead, AVolumeOverRaidIsItsDrives) {
  const Machine machine;
  machine.Disk("nvme0n1", "Fast", "0");
  machine.Disk("nvme1n1", "Fast", "0");
  machine.root.Put("sys/devices/nvme0n1/nvme0n1p1/partition", "1\n");
  machine.root.Put("sys/devices/md0/md/level", "raid0\n");
  machine.root.Link("sys/devices/md0/slaves/nvme0n1p1", "sys/devices/nvme0n1/nvme0n1p1");
  machine.root.Link("sys/devices/md0/slaves/nvme1n1", "sys/devices/nvme1n1");
  machine.root.Link("sys/devices/dm-0/slaves/md0", "sys/devices/md0");
  machine.LiesOn("dm-0");
  const Drive drive = machine.Read();
  EXPECT_EQ(drive.device, "nvme0n1+nvme1n1");
  EXPECT_EQ(drive.devices, 2);
  EXPECT_EQ(drive.kind, DriveKind::kNvme);
}

TEST(DriveRead, AVolumeThatHoldsItselfEnds) {
  const Machine machine;
  machine.root.Put("sys/devices/dm-0/queue/rotational", "0\n");
  machine.root.Link("sys/devices/dm-0/slaves/dm-0", "sys/devices/dm-0");
  machine.LiesOn("dm-0");
  EXPECT_EQ(machine.Read().devices, 1);
}

TEST(DriveRead, WhereFilesHaveTheirOwnDeviceTheMountNamesIt) {
  const Machine machine;
  machine.Mounts("/ btrfs /dev/nvme0n1p2");
  machine.Disk("nvme0n1", "Fast", "0");
  machine.root.Put("sys/devices/nvme0n1/nvme0n1p2/partition", "2\n");
  machine.root.Link("sys/class/block/nvme0n1p2", "sys/devices/nvme0n1/nvme0n1p2");
  const Drive drive = machine.Read();
  EXPECT_EQ(drive.device, "nvme0n1");
  EXPECT_EQ(drive.filesystem, "btrfs");
}

TEST(DriveRead, TheInnermostMountCounts) {
  const Machine machine;
  const std::string inner = std::filesystem::path(machine.folder.path()).parent_path().string();
  machine.Mounts("/ ext4 /dev/sda1", inner + " nfs4 server:/models");
  EXPECT_EQ(machine.Read().filesystem, "nfs4");
  EXPECT_EQ(machine.Read().kind, DriveKind::kNetwork);
  // A mount point that only begins alike does not hold it.
  machine.Mounts("/ tmpfs tmpfs",
                 machine.folder.path().substr(0, machine.folder.path().size() - 1) + " nfs4 s:/");
  EXPECT_EQ(machine.Read().filesystem, "tmpfs");
  EXPECT_EQ(machine.Read().kind, DriveKind::kMemory);
  EXPECT_EQ(machine.Read().Key(), "") << "figures of RAM are of no drive";
}

TEST(DriveRead, WhatIsNotFoundIsANote) {
  const Machine machine;
  machine.Mounts("/ overlay overlay");
  const Drive drive = machine.Read();
  EXPECT_EQ(drive.kind, DriveKind::kUnknown);
  EXPECT_EQ(drive.device, "");
  EXPECT_THAT(drive.notes, Contains(HasSubstr("overlay")));
  const test::FakeRoot nothing;
  EXPECT_EQ(ReadDrive(machine.folder.path(), nothing.path()).filesystem, "");
}

TEST(DriveRead, APathThatIsNotThereStandsForTheFolderAboveIt) {
  const Machine machine;
  machine.Disk("sda", "Slow", "1");
  machine.LiesOn("sda");
  EXPECT_EQ(ReadDrive(machine.folder / "not/yet/there", machine.root.path()).device, "sda");
}

TEST(DriveRead, LeavesNothingBehindAndReadsWhatIsThere) {
  const test::TempFolder folder;
  const Drive empty = ReadDrive(folder.path());
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  EXPECT_GT(empty.total_bytes, 0);
  EXPECT_GE(empty.total_bytes, empty.free_bytes);
  test::WriteFile(folder / "model.safetensors", std::string(8192, 'x'));
  const Drive with_file = ReadDrive(folder.path());
  ASSERT_TRUE(with_file.direct.has_value());
  EXPECT_EQ(with_file.direct, ReadDrive(folder / "model.safetensors").direct);
  EXPECT_EQ(empty.direct.value_or(*with_file.direct), *with_file.direct);
  EXPECT_TRUE(with_file.io_uring.value_or(true) || !with_file.io_uring_refusal.empty());
}

}  // namespace
}  // namespace moraine
