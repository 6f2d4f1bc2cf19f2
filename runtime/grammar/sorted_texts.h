// SortedTexts: which of a set of texts begin with the bytes so far, narrowed byte by byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace moraine {

/// Immutable after the constructor; const calls from any thread.
class SortedTexts {
 public:
  /// Places in texts(), [first, last).
  struct Range {
    uint16_t first = 0;
    uint16_t last = 0;
    bool empty() const { return first == last; }
  };
  static constexpr size_t kMost = 0xFFFF;

  SortedTexts() = default;
  /// Sorts them and drops what comes twice. REQUIRES: at most kMost.
  explicit SortedTexts(std::vector<std::string> texts);

  const std::vector<std::string>& texts() const { return texts_; }
  Range All() const { return {0, static_cast<uint16_t>(texts_.size())}; }
  /// Those of `range`, which agree in their first `at` bytes, whose next byte is `byte`.
  Range Narrow(Range range, uint32_t at, uint8_t byte) const;
  /// Whether one of `range` is whole after `at` bytes: the first of it.
  bool Ends(Range range, uint32_t at) const { return !range.empty() && texts_[range.first].size() == at; }
  /// The place of `text`; texts().size() if it is not there.
  size_t Find(std::string_view text) const;

 private:
  std::vector<std::string> texts_;
};

}  // namespace moraine
