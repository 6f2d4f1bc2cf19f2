#include "runtime/grammar/sorted_texts.h"

#include <algorithm>
#include <utility>

#include "runtime/core/check.h"

namespace moraine {

SortedTexts::SortedTexts(std::vector<std::string> texts) : texts_(std::move(texts)) {
  std::sort(texts_.begin(), texts_.end());
  texts_.erase(std::unique(texts_.begin(), texts_.end()), texts_.end());
  MORAINE_CHECK(texts_.size() <= kMost);
}

SortedTexts::Range SortedTexts::Narrow(Range range, uint32_t at, uint8_t byte) const {
  // One that ends here sorts before all that go on.
  const auto next = [at](const std::string& text) {
    return text.size() == at ? -1 : static_cast<int>(static_cast<uint8_t>(text[at]));
  };
  const auto begin = texts_.begin() + range.first;
  const auto end = texts_.begin() + range.last;
  const auto first =
      std::partition_point(begin, end, [&](const std::string& text) { return next(text) < byte; });
  const auto last =
      std::partition_point(first, end, [&](const std::string& text) { return next(text) <= byte; });
  return {static_cast<uint16_t>(first - texts_.begin()), static_cast<uint16_t>(last - texts_.begin())};
}

size_t SortedTexts::Find(std::string_view text) const {
  const auto at = std::lower_bound(texts_.begin(), texts_.end(), text);
  if (at == texts_.end() || *at != text) return texts_.size();
  return static_cast<size_t>(at - texts_.begin());
}

}  // namespace moraine
