#include "policies/eviction.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <array>

#include "policies/eviction_lru.h"

namespace moraine {
namespace {

constexpr std::array<std::string_view, 1> kNames = {"lru"};

}  // namespace

std::span<const std::string_view> EvictionNames() { return kNames; }

Result<std::unique_ptr<Eviction>> MakeEviction(const EvictionOptions& options, int32_t keys) {
  if (options.policy == "lru") return MakeLru(keys);
  return Fail(ErrorKind::kUsage, fmt::format("eviction policy \"{}\" is unknown; one of {}", options.policy,
                                             fmt::join(kNames, ", ")));
}

}  // namespace moraine
