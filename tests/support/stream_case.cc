#include "tests/support/stream_case.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "storage/stream/backend.h"

namespace moraine::test {
namespace {

constexpr auto kGuard = std::byte{0xA5};

template <typename T>
T OrAbort(Result<T> result) {
  if (!result.has_value()) {
    std::fprintf(stderr, "%s\n", result.error().message.c_str());
    std::abort();
  }
  return std::move(*result);
}

}  // namespace

std::byte Pattern(int32_t file, int64_t offset) {
  const uint64_t mixed =
      (static_cast<uint64_t>(offset) + static_cast<uint64_t>(file) * 0x1234567) * 0x9E3779B97F4A7C15u;
  return static_cast<std::byte>(mixed >> 56);
}

void SlotMemory::Free::operator()(std::byte* at) const { std::free(at); }

SlotMemory::SlotMemory(int64_t bytes)
    : capacity_((bytes + kStreamBlock - 1) / kStreamBlock * kStreamBlock + kStreamBlock) {
  const auto all = static_cast<size_t>(capacity_ + 2 * kStreamBlock);
  memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kStreamBlock, all)));
  std::fill_n(memory_.get(), all, kGuard);
}

StreamRange SlotMemory::At(int32_t file, int64_t offset, int64_t bytes) {
  const int64_t shift = offset % kStreamBlock;
  used_ = bytes == 0 ? 0 : (shift + bytes + kStreamBlock - 1) / kStreamBlock * kStreamBlock;
  return {.file = file, .offset = offset, .bytes = bytes, .to = memory_.get() + kStreamBlock + shift};
}

bool SlotMemory::EdgesIntact() const {
  const auto guarded = [](std::byte b) { return b == kGuard; };
  const std::byte* begin = memory_.get();
  return std::all_of(begin, begin + kStreamBlock, guarded) &&
         std::all_of(begin + kStreamBlock + used_, begin + capacity_ + 2 * kStreamBlock, guarded);
}

StreamCase::StreamCase(const std::vector<int64_t>& sizes) {
  for (size_t f = 0; f < sizes.size(); ++f) {
    std::string bytes(static_cast<size_t>(sizes[f]), '\0');
    for (int64_t i = 0; i < sizes[f]; ++i)
      bytes[static_cast<size_t>(i)] = static_cast<char>(Pattern(static_cast<int32_t>(f), i));
    WriteFile(path(static_cast<int32_t>(f)), bytes);
    files_.push_back(OrAbort(File::Open(path(static_cast<int32_t>(f)))));
  }
}

std::string StreamCase::path(int32_t file) const { return folder_ / ("shard-" + std::to_string(file)); }

std::unique_ptr<Streamer> StreamCase::Open(const StreamerOptions& options) const {
  return OrAbort(Streamer::Open(files_, options));
}

std::unique_ptr<Streamer> StreamCase::Open(const StreamerOptions& options,
                                           std::unique_ptr<StreamBackend> backend) const {
  return OrAbort(Streamer::Open(files_, options, std::move(backend)));
}

bool StreamCase::Holds(const StreamRange& range) const {
  for (int64_t i = 0; i < range.bytes; ++i)
    if (range.to[i] != Pattern(range.file, range.offset + i)) return false;
  return true;
}

}  // namespace moraine::test
