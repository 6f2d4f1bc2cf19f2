#include "runtime/drive_read.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <system_error>
#include <vector>

#include "runtime/core/file.h"
#include "runtime/sys_file.h"
#include "storage/stream/uring_backend.h"
#include "storage/streamer.h"

namespace moraine {
namespace {

namespace fs = std::filesystem;

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}
bool Holds(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

fs::path Nearest(const std::string& path) {
  std::error_code error;
  fs::path at = fs::absolute(path.empty() ? "." : path, error);
  while (at.has_relative_path() && !fs::exists(at, error)) at = at.parent_path();
  const fs::path real = fs::canonical(at, error);
  return error ? at : real;
}

struct Mount {
  std::string point;
  std::string filesystem;
  std::string source;
};

// "\040" is a blank in /proc/self/mountinfo.
std::string Unescape(const std::string& text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain += static_cast<char>(std::strtol(text.substr(i + 1, 3).c_str(), nullptr, 8));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

// The mount that `path` lies in: the longest mount point above it, the last of equals, which hides the rest.
Mount MountOf(const fs::path& path, const std::string& root) {
  std::ifstream table(root + "/proc/self/mountinfo");
  Mount best;
  for (std::string line; std::getline(table, line);) {
    // ID PARENT MAJ:MIN ROOT POINT OPTIONS [TAG...] - TYPE SOURCE SUPER
    std::istringstream words(line);
    std::string skip;
    std::string point;
    words >> skip >> skip >> skip >> skip >> point;
    while (words >> skip && skip != "-") continue;
    Mount mount{Unescape(point), "", ""};
    if (!(words >> mount.filesystem >> mount.source) || mount.point.size() < best.point.size()) continue;
    const std::string below = mount.point == "/" ? "/" : mount.point + "/";
    if (path.string() == mount.point || StartsWith(path.string(), below)) best = mount;
  }
  best.source = Unescape(best.source);
  return best;
}

bool IsNetwork(const std::string& filesystem) {
  static constexpr std::array kNames = {"nfs",        "nfs4",      "cifs",      "smb3",        "ceph",
                                        "9p",         "lustre",    "gpfs",      "afs",         "beegfs",
                                        "fuse.sshfs", "glusterfs", "fuse.s3fs", "fuse.gcsfuse"};
  return std::find(kNames.begin(), kNames.end(), filesystem) != kNames.end();
}

// A block device below /sys: of a partition, the drive it is a part of.
fs::path WholeDrive(const fs::path& device) {
  std::error_code error;
  const fs::path real = fs::canonical(device, error);
  if (error) return {};
  return fs::exists(real / "partition", error) ? real.parent_path() : real;
}

// The drives under a device, through volumes and RAID (dm, md).
void AddDrives(const fs::path& device, int levels, std::vector<fs::path>* drives) {
  const fs::path drive = WholeDrive(device);
  if (drive.empty()) return;
  std::error_code error;
  std::vector<fs::path> slaves;
  for (const auto& entry : fs::directory_iterator(drive / "slaves", error)) slaves.push_back(entry.path());
  std::sort(slaves.begin(), slaves.end());
  if (levels > 0 && !slaves.empty()) {
    for (const fs::path& slave : slaves) AddDrives(slave, levels - 1, drives);
  } else if (std::find(drives->begin(), drives->end(), drive) == drives->end()) {
    drives->push_back(drive);
  }
}

bool IsHypervisors(const std::string& model) {
  static constexpr std::array kMakers = {
      "QEMU",           "VMware",       "Msft",  "Virtual", "VBOX", "Xen", "Elastic Block Store",
      "PersistentDisk", "nvme_card-pd", "Google"};
  return std::any_of(kMakers.begin(), kMakers.end(), [&](const char* maker) { return Holds(model, maker); });
}

DriveKind KindOf(const fs::path& drive, const std::string& model) {
  const std::string name = drive.filename();
  if (StartsWith(name, "nbd") || StartsWith(name, "rbd")) return DriveKind::kNetwork;
  if (StartsWith(name, "ram") || StartsWith(name, "zram")) return DriveKind::kMemory;
  if (StartsWith(name, "vd") || StartsWith(name, "xvd") || StartsWith(name, "loop") || IsHypervisors(model))
    return DriveKind::kVirtual;
  if (StartsWith(name, "nvme")) {
    const std::string transport = FirstLine(drive / "device" / "transport");
    return transport.empty() || transport == "pcie" ? DriveKind::kNvme : DriveKind::kNetwork;
  }
  const std::string rotational = FirstLine(drive / "queue" / "rotational");
  if (rotational == "1") return DriveKind::kDisk;
  return rotational == "0" ? DriveKind::kSsd : DriveKind::kUnknown;
}

void Describe(const std::vector<fs::path>& drives, Drive* drive) {
  drive->devices = static_cast<int>(drives.size());
  for (const fs::path& each : drives) {
    if (!drive->device.empty()) drive->device += '+';
    drive->device += each.filename().string();
    std::string model = FirstLine(each / "device" / "model");
    if (model.empty() && StartsWith(each.filename().string(), "vd")) model = "virtio";
    const DriveKind kind = KindOf(each, model);
    if (drive->model.empty()) drive->model = model;
    // The slowest kind decides what is assumed: they are ordered so, but for kNetwork, which is a kind apart.
    drive->kind = &each == drives.data() ? kind : std::max(drive->kind, kind);
    const std::string file = FirstLine(each / "loop" / "backing_file");
    if (!file.empty())
      drive->notes.push_back(fmt::format("{} is a loop over {}", each.filename().string(), file));
  }
  if (drive->kind == DriveKind::kVirtual)
    drive->notes.push_back(
        "a virtual drive: its host may cache it, so that a second reading is faster than the drive");
}

struct FreeAligned {
  void operator()(std::byte* at) const { std::free(at); }
};

// A regular file to read from: `path` itself, or the first weight file, or else any of at least a block in
// it.
std::string FileToRead(const fs::path& path) {
  std::error_code error;
  if (fs::is_regular_file(path, error)) return path;
  std::string any;
  for (fs::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    if (!entry->is_regular_file(ignored) || entry->file_size(ignored) < static_cast<uintmax_t>(kStreamBlock))
      continue;
    if (entry->path().extension() == ".safetensors") return entry->path();
    if (any.empty()) any = entry->path();
  }
  return any;
}

bool ReadsBlock(int fd) {
  const std::unique_ptr<std::byte, FreeAligned> block(
      static_cast<std::byte*>(std::aligned_alloc(kStreamBlock, kStreamBlock)));
  return ::pread(fd, block.get(), kStreamBlock, 0) > 0;
}

// Empty when there is nothing to try it on.
std::optional<bool> TryDirect(const fs::path& path) {
  if (const std::string file = FileToRead(path); !file.empty()) {
    const Handle<FdTraits> fd(::open(file.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    if (fd.get() >= 0) return ReadsBlock(fd.get());
    if (errno == EINVAL || errno == EOPNOTSUPP) return false;
  }
  const Handle<FdTraits> fd(::open(path.c_str(), O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600));
  if (fd.get() >= 0) {
    const std::unique_ptr<std::byte, FreeAligned> block(
        static_cast<std::byte*>(std::aligned_alloc(kStreamBlock, kStreamBlock)));
    std::fill_n(block.get(), kStreamBlock, std::byte{0});
    if (::pwrite(fd.get(), block.get(), kStreamBlock, 0) == kStreamBlock) return ReadsBlock(fd.get());
    return errno == EINVAL ? std::optional(false) : std::nullopt;
  }
  // A file system that knows O_TMPFILE refuses O_DIRECT with EINVAL; one that does not says EOPNOTSUPP.
  return errno == EINVAL ? std::optional(false) : std::nullopt;
}

}  // namespace

Drive ReadDrive(const std::string& path, const std::string& root) {
  Drive drive;
  drive.path = path;
  const fs::path at = Nearest(path);
  const Mount mount = MountOf(at, root);
  drive.filesystem = mount.filesystem;

  struct stat status {};
  std::vector<fs::path> drives;
  if (::stat(at.c_str(), &status) == 0)
    AddDrives(fmt::format("{}/sys/dev/block/{}:{}", root, major(status.st_dev), minor(status.st_dev)), 8,
              &drives);
  // btrfs and others number their files' device themselves; the mount names the real one.
  if (drives.empty() && StartsWith(mount.source, "/dev/"))
    AddDrives(root + "/sys/class/block/" + fs::path(mount.source).filename().string(), 8, &drives);
  Describe(drives, &drive);
  if (drives.empty()) {
    if (mount.filesystem == "tmpfs" || mount.filesystem == "ramfs") drive.kind = DriveKind::kMemory;
    if (IsNetwork(mount.filesystem)) drive.kind = DriveKind::kNetwork;
    if (drive.kind == DriveKind::kUnknown)
      drive.notes.push_back(fmt::format("the drive behind {} could not be found ({} of {})", at.string(),
                                        mount.filesystem.empty() ? "no mount" : mount.filesystem,
                                        mount.source.empty() ? "nothing" : mount.source));
  }

  struct statvfs space {};
  if (::statvfs(at.c_str(), &space) == 0) {
    drive.free_bytes = static_cast<int64_t>(space.f_bavail) * static_cast<int64_t>(space.f_frsize);
    drive.total_bytes = static_cast<int64_t>(space.f_blocks) * static_cast<int64_t>(space.f_frsize);
  }
  drive.direct = TryDirect(at);
  if (const auto ring = UringBackend::Open({.reads = 1, .fds = {}, .memory = {}}); ring.has_value()) {
    drive.io_uring = true;
  } else if (ring.error().kind == ErrorKind::kHardware) {
    drive.io_uring = false;
    drive.io_uring_refusal = ring.error().message;
  }
  return drive;
}

}  // namespace moraine
