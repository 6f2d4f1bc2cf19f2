#include "policies/nearest_name.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

namespace moraine {
namespace {

constexpr size_t kMost = 64;

// Restricted Damerau-Levenshtein distance, row by row; both at most kMost letters.
size_t Distance(std::string_view a, std::string_view b) {
  std::array<size_t, kMost + 1> before{};
  std::array<size_t, kMost + 1> last{};
  std::array<size_t, kMost + 1> row{};
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before = std::exchange(last, row);
  }
  return last[b.size()];
}

}  // namespace

std::string_view NearestName(std::string_view name, std::span<const std::string_view> known) {
  std::string_view best;
  size_t least = std::max<size_t>(1, (name.size() + 1) / 3) + 1;
  if (name.empty() || name.size() > kMost) return best;
  for (const std::string_view candidate : known) {
    if (candidate.size() > kMost) continue;
    const size_t distance = Distance(name, candidate);
    if (distance >= least) continue;
    least = distance;
    best = candidate;
  }
  return best;
}

}  // namespace moraine
