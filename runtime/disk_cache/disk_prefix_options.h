// What the cache of prompts on the drive is given, tells, and takes of memory.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <numeric>
#include <string>

#include "runtime/core/sha256.h"

namespace moraine {

class BlockStore;

struct DiskPrefixOptions {
  std::shared_ptr<BlockStore> store;  // null: no cache on the drive
  Digest realm{};                     // a cache under another realm finds nothing of this one
  std::function<void(const std::string&)>
      notice;  // what the user should know, each once; any thread; may be empty
};

struct DiskPrefixStats {
  int64_t hit_tokens = 0;  // of prompts, read from the drive instead of computed
  int64_t read_bytes = 0;
  int64_t written_bytes = 0;
  int64_t broken = 0;   // blocks that did not pass their checksums
  int64_t removed = 0;  // for the cap
  int64_t bytes = 0;    // on the drive now
};

/// Blocks in memory at once: two on their way to the drive, one from it.
inline constexpr int32_t kDiskBuffers = 3;
inline constexpr int64_t kMostDiskBlockTokens = 4096;

/// Tokens of a block: whole chunks and whole pages. Above kMostDiskBlockTokens there can be no cache.
inline int64_t DiskBlockTokens(int32_t prefill_chunk, int32_t page_tokens) {
  return std::lcm(int64_t{prefill_chunk}, int64_t{page_tokens});
}

}  // namespace moraine
