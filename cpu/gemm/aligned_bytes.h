// Memory that starts on a cache line, for tiles, panels and oneDNN.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "runtime/core/check.h"

namespace moraine {

/// Uninitialised and untouched, so that the first worker to write a page places it. Empty at first.
class AlignedBytes {
 public:
  AlignedBytes() = default;
  explicit AlignedBytes(int64_t bytes) : bytes_(bytes) {
    constexpr int64_t kLine = 64;
    memory_.reset(static_cast<std::byte*>(
        std::aligned_alloc(kLine, static_cast<size_t>((bytes + kLine) / kLine * kLine))));
    MORAINE_CHECK(memory_ != nullptr);
  }
  std::byte* data() const { return memory_.get(); }
  int64_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  int64_t bytes_ = 0;
};

}  // namespace moraine
