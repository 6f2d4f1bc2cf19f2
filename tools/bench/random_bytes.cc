#include "tools/bench/random_bytes.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <system_error>

#include "storage/streamer.h"
#include "tools/interrupt.h"

namespace moraine::tools {
namespace {

std::string Reason(int error) { return std::generic_category().message(error); }

struct FreeAligned {
  void operator()(std::byte* at) const { std::free(at); }
};

}  // namespace

Result<int64_t> WriteRandom(int fd, const std::string& path, int64_t bytes, double seconds) {
  const std::unique_ptr<std::byte, FreeAligned> piece(
      static_cast<std::byte*>(std::aligned_alloc(kStreamBlock, kRandomPiece)));
  std::mt19937_64 random(std::hash<std::string>()(path));
  for (int64_t at = 0; at < kRandomPiece; at += 8) {
    const uint64_t bits = random();
    std::memcpy(piece.get() + at, &bits, sizeof bits);
  }
  const auto start = std::chrono::steady_clock::now();
  const std::chrono::duration<double> most(seconds);
  int64_t done = 0;
  while (done < bytes && std::chrono::steady_clock::now() - start <= most) {
    if (Interrupted()) return Fail(ErrorKind::kInterrupted, "interrupted while files were written");
    for (int64_t block = 0; block < kRandomPiece; block += kStreamBlock) {
      const int64_t name = done + block;
      std::memcpy(piece.get() + block, &name, sizeof name);
    }
    const auto length = static_cast<size_t>(std::min(kRandomPiece, bytes - done));
    const ssize_t written = ::pwrite(fd, piece.get(), length, done);
    if (written != static_cast<ssize_t>(length)) {
      return Fail(ErrorKind::kIo, fmt::format("{}: writing {} bytes at offset {}: wrote {}: {}", path, length,
                                              done, written, Reason(errno)));
    }
    done += written;
  }
  if (::fsync(fd) != 0) return Fail(ErrorKind::kIo, fmt::format("{}: fsync: {}", path, Reason(errno)));
  return done;
}

}  // namespace moraine::tools
