#include "tools/bench/drive_depths.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <system_error>

#include "storage/streamer.h"
#include "tools/bench/random_bytes.h"
#include "tools/bench/read_bandwidth.h"
#include "tools/interrupt.h"

namespace moraine::tools {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kPiece = int64_t{1} << 20;
constexpr int64_t kEnough = int64_t{256} << 20;
constexpr int64_t kLeast = int64_t{128} << 20;
constexpr int64_t kSpare = int64_t{1} << 30;  // stays free
constexpr double kRampSeconds = 0.05;         // not counted

std::string Reason(int error) { return std::generic_category().message(error); }

struct FreeAligned {
  void operator()(std::byte* at) const { std::free(at); }
};

// True when more than a tenth of the file is holes, which no drive is asked for.
bool HasHoles(const File& file) {
  struct stat status {};
  return ::fstat(file.fd(), &status) == 0 && int64_t{status.st_blocks} * 512 < file.bytes() / 10 * 9;
}

// All weight files under `path`, and what was left out.
Result<DriveFiles> WeightFiles(const fs::path& path) {
  std::vector<fs::path> names;
  std::error_code error;
  if (fs::is_regular_file(path, error)) names.push_back(path);
  for (fs::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error))
    if (entry->path().extension() == ".safetensors") names.push_back(entry->path());
  std::sort(names.begin(), names.end());
  DriveFiles found;
  for (const fs::path& name : names) {
    MORAINE_ASSIGN_OR_RETURN(File file, File::Open(name));
    if (HasHoles(file)) {
      found.note = fmt::format("{} and others like it are mostly holes", name.filename().string());
      continue;
    }
    found.bytes += file.bytes();
    found.files.push_back(std::move(file));
  }
  return found;
}

// Opened for writing past the page cache, without a name or with one that is taken away at once.
Result<Handle<FdTraits>> OpenNameless(const std::string& folder) {
  Handle<FdTraits> fd(::open(folder.c_str(), O_TMPFILE | O_RDWR | O_DIRECT | O_CLOEXEC, 0600));
  if (fd.get() < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {
    std::string name = folder + "/moraine-measure-XXXXXX";
    const Handle<FdTraits> made(::mkstemp(name.data()));
    if (made.get() < 0)
      return Fail(ErrorKind::kIo, fmt::format("{}: no file can be made in it: {}", folder, Reason(errno)));
    fd = Handle<FdTraits>(::open(name.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
    const int error = errno;
    ::unlink(name.c_str());
    errno = error;
  }
  if (fd.get() < 0) {
    return Fail(ErrorKind::kIo, fmt::format("{}: {}", folder,
                                            errno == EINVAL ? "its file system refuses O_DIRECT"
                                                            : "no file can be made in it: " + Reason(errno)));
  }
  return fd;
}

Result<DriveFiles> MakeFile(const std::string& folder, int64_t most, double seconds) {
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  const int64_t room = error ? most : static_cast<int64_t>(space.available) - kSpare;
  const int64_t bytes = std::min(most, room) / kRandomPiece * kRandomPiece;
  if (bytes < kLeast) {
    return Fail(ErrorKind::kDoesNotFit,
                fmt::format("{}: {} MiB and 1 GiB to spare are needed to measure the drive, {} MiB are free",
                            folder, kLeast >> 20, error ? 0 : space.available >> 20));
  }
  DriveFiles made;
  MORAINE_ASSIGN_OR_RETURN(made.nameless, OpenNameless(folder));
  MORAINE_ASSIGN_OR_RETURN(made.bytes, WriteRandom(made.nameless.get(), folder, bytes, seconds));
  MORAINE_ASSIGN_OR_RETURN(File file, File::Open(fmt::format("/proc/self/fd/{}", made.nameless.get())));
  made.files.push_back(std::move(file));
  made.note = fmt::format("a file of {} MiB written for the purpose", made.bytes >> 20);
  return made;
}

struct Place {
  int32_t file;
  int64_t offset;
};

// Whole pieces of all files in random order.
std::vector<Place> Places(std::span<const File> files) {
  std::vector<Place> places;
  for (size_t f = 0; f < files.size(); ++f)
    for (int64_t at = 0; at + kPiece <= files[f].bytes(); at += kPiece)
      places.push_back({static_cast<int32_t>(f), at});
  std::shuffle(places.begin(), places.end(), std::mt19937_64(5));
  return places;
}

}  // namespace

Result<DriveFiles> FilesToRead(const std::string& path, int64_t make_bytes, double seconds) {
  MORAINE_ASSIGN_OR_RETURN(DriveFiles found, WeightFiles(path));
  if (found.bytes >= kEnough) {
    const std::string& first = found.files.front().path();
    const Handle<FdTraits> direct(::open(first.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
    if (direct.get() < 0) {
      return Fail(
          ErrorKind::kIo,
          fmt::format("{}: {}", first, errno == EINVAL ? "its file system refuses O_DIRECT" : Reason(errno)));
    }
    return found;
  }
  std::error_code error;
  const fs::path folder =
      fs::is_regular_file(path, error) ? fs::absolute(path).parent_path() : fs::path(path);
  MORAINE_ASSIGN_OR_RETURN(DriveFiles made, MakeFile(folder, make_bytes, seconds));
  if (!found.note.empty()) made.note += "; " + found.note;
  return made;
}

Result<std::vector<DepthRate>> ReadByDepth(std::span<const File> files, std::span<const int> depths,
                                           double seconds) {
  const std::vector<Place> places = Places(files);
  if (places.empty()) return Fail(ErrorKind::kIo, "the drive's files are smaller than 1 MiB");
  size_t next = 0;
  std::vector<DepthRate> rates;
  for (const int depth : depths) {
    const auto bytes = static_cast<size_t>(depth * kPiece);
    const std::unique_ptr<std::byte, FreeAligned> memory(
        static_cast<std::byte*>(std::aligned_alloc(kStreamBlock, bytes)));
    std::memset(memory.get(), 1, bytes);  // else its first reader pays for making it
    MORAINE_ASSIGN_OR_RETURN(const std::unique_ptr<Streamer> streamer,
                             Streamer::Open(files, {.depth = depth, .chunk_bytes = kPiece}));
    std::vector<uint64_t> numbers(static_cast<size_t>(depth));
    const auto ask = [&](size_t slot) {
      const Place& place = places[next];
      next = (next + 1) % places.size();
      const StreamRange range{place.file, place.offset, kPiece,
                              memory.get() + static_cast<int64_t>(slot) * kPiece};
      numbers[slot] = streamer->Read({&range, 1}, ReadClass::kDemand).number();
    };
    for (size_t slot = 0; slot < numbers.size(); ++slot) ask(slot);
    const double start = Seconds();
    double from = 0;
    double now = start;
    int64_t done = 0;
    Status status;
    // At least one piece counts, however slow the drive.
    for (size_t slot = 0; status.has_value() && !Interrupted() && (done == 0 || now - from < seconds);
         slot = (slot + 1) % numbers.size()) {
      status = streamer->Wait(numbers[slot]);
      streamer->Release(numbers[slot]);
      now = Seconds();
      if (from > 0) done += kPiece;
      if (from == 0 && now - start >= kRampSeconds) from = now;
      ask(slot);
    }
    for (const uint64_t number : numbers) {
      const Status last = streamer->Wait(number);
      if (status.has_value()) status = last;
      if (streamer->Settled(number)) streamer->Release(number);
    }
    if (Interrupted()) return Fail(ErrorKind::kInterrupted, "interrupted while the drive was measured");
    if (!status.has_value()) return tl::unexpected(status.error());
    rates.push_back({depth, static_cast<double>(done) / (now - from)});
  }
  return rates;
}

}  // namespace moraine::tools
