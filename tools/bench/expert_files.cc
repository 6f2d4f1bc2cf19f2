#include "tools/bench/expert_files.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <random>
#include <system_error>

#include "storage/streamer.h"
#include "tools/bench/random_bytes.h"

namespace moraine::tools {
namespace {

namespace fs = std::filesystem;

constexpr int kFiles = 2;
constexpr int64_t kPiece = kRandomPiece;

std::string Reason(int error) { return std::generic_category().message(error); }

Status Write(const std::string& path, int64_t bytes) {
  int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT, 0600);
  if (fd < 0 && errno == EINVAL) fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return Fail(ErrorKind::kIo, fmt::format("{}: cannot be made: {}", path, Reason(errno)));
  const Handle<FdTraits> file(fd);
  MORAINE_RETURN_IF_ERROR(WriteRandom(fd, path, bytes));
  return {};
}

}  // namespace

Result<ExpertFiles> ExpertFiles::Make(const std::string& folder, double gib, bool keep) {
  ExpertFiles made;
  made.folder_ = folder;
  made.keep_ = keep;
  const int64_t bytes = static_cast<int64_t>(gib * 0x1p30 / kFiles) / kPiece * kPiece;
  std::error_code error;
  made.made_folder_ = fs::create_directories(folder, error);
  if (error) return Fail(ErrorKind::kIo, fmt::format("{}: cannot be made: {}", folder, error.message()));
  int64_t missing = 0;
  for (int f = 0; f < kFiles; ++f) {
    made.paths_.push_back(fmt::format("{}/bench_streamer-{}.bin", folder, f));
    const auto size = fs::file_size(made.paths_.back(), error);
    if (error || static_cast<int64_t>(size) != bytes) missing += bytes;
  }
  const fs::space_info space = fs::space(folder, error);
  if (!error && missing > 0 && static_cast<int64_t>(space.available) < missing + (int64_t{1} << 30)) {
    return Fail(
        ErrorKind::kDoesNotFit,
        fmt::format("{}: {} MiB and 1 GiB to spare are needed, {} MiB are free; choose another --dir or a "
                    "smaller --gib",
                    folder, missing >> 20, space.available >> 20));
  }
  for (const std::string& path : made.paths_) {
    const auto size = fs::file_size(path, error);
    if (error || static_cast<int64_t>(size) != bytes) MORAINE_RETURN_IF_ERROR(Write(path, bytes));
    MORAINE_ASSIGN_OR_RETURN(File file, File::Open(path));
    made.files_.push_back(std::move(file));
  }
  return made;
}

ExpertFiles::ExpertFiles(ExpertFiles&& other) noexcept
    : folder_(std::move(other.folder_)),
      keep_(other.keep_),
      made_folder_(other.made_folder_),
      paths_(std::exchange(other.paths_, {})),
      files_(std::move(other.files_)) {}

ExpertFiles::~ExpertFiles() {
  if (keep_ || paths_.empty()) return;
  std::error_code ignored;
  for (const std::string& path : paths_) fs::remove(path, ignored);
  if (made_folder_) fs::remove(folder_, ignored);
}

std::vector<StoredExpert> ExpertFiles::Experts(int64_t tensor_bytes) const {
  // A safetensors header's odd length before the first, and something small between experts.
  constexpr int64_t kFirst = 7 * kStreamBlock + 1'736;
  constexpr int64_t kBetween = 40;
  std::vector<StoredExpert> experts;
  for (size_t f = 0; f < files_.size(); ++f) {
    for (int64_t at = kFirst; at + 3 * tensor_bytes <= files_[f].bytes(); at += 3 * tensor_bytes + kBetween)
      experts.push_back({static_cast<int32_t>(f), at});
  }
  std::shuffle(experts.begin(), experts.end(), std::mt19937_64(11));
  return experts;
}

}  // namespace moraine::tools
