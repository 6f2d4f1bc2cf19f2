#include "policies/units.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <span>

#include "runtime/core/printable.h"

namespace moraine {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};
constexpr std::array kBytes = {
    Unit{"B", 1},        Unit{"kB", 1e3},     Unit{"MB", 1e6},     Unit{"GB", 1e9},     Unit{"TB", 1e12},
    Unit{"KiB", 0x1p10}, Unit{"MiB", 0x1p20}, Unit{"GiB", 0x1p30}, Unit{"TiB", 0x1p40}, Unit{"PB", 1e15},
    Unit{"EB", 1e18},    Unit{"PiB", 0x1p50}, Unit{"EiB", 0x1p60}};
constexpr std::array kSeconds = {Unit{"us", 1e-6}, Unit{"ms", 1e-3}, Unit{"s", 1}, Unit{"min", 60},
                                 Unit{"h", 3600}};

// The number times its unit; nullopt when `text` is no number or has no unit of `units`.
std::optional<double> Parse(std::string_view text, std::span<const Unit> units) {
  double number = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
  if (error != std::errc() || !std::isfinite(number) || std::signbit(number)) return std::nullopt;
  for (const Unit& unit : units)
    if (std::string_view(rest, static_cast<size_t>(end - rest)) == unit.name) return number * unit.factor;
  return std::nullopt;
}

}  // namespace

Result<int64_t> ParseBytes(std::string_view text) {
  const std::optional<double> bytes = Parse(text, kBytes);
  if (!bytes) {
    return Fail(
        ErrorKind::kUsage,
        fmt::format("\"{}\"; expected a size with its unit, such as 8GiB (B, kB, MB, GB, TB, KiB, MiB, GiB "
                    "or TiB)",
                    Printable(text, 60)));
  }
  if (*bytes >= 0x1p63)
    return Fail(ErrorKind::kUsage, fmt::format("\"{}\": more than any machine has", Printable(text, 60)));
  return static_cast<int64_t>(*bytes);
}

Result<double> ParseRate(std::string_view text) {
  constexpr std::string_view kEnding = "/s";
  std::string size;
  for (const char c : text.substr(0, text.size() - std::min(text.size(), kEnding.size())))
    if (c != ' ') size += c;
  const std::optional<double> bytes = Parse(size, kBytes);
  if (!text.ends_with(kEnding) || !bytes || *bytes <= 0) {
    return Fail(
        ErrorKind::kUsage,
        fmt::format("\"{}\"; expected a rate with its unit, such as 80GB/s (MB/s, GB/s, MiB/s or GiB/s)",
                    Printable(text, 60)));
  }
  return *bytes;
}

Result<double> ParseSeconds(std::string_view text) {
  const std::optional<double> seconds = Parse(text, kSeconds);
  if (!seconds) {
    return Fail(ErrorKind::kUsage,
                fmt::format("\"{}\"; expected a time with its unit, such as 30s (us, ms, s, min or h)",
                            Printable(text, 60)));
  }
  return *seconds;
}

std::string FormatBytes(int64_t bytes) {
  Unit best = kBytes.front();
  for (const std::string_view name : {"KiB", "MiB", "GiB", "TiB"}) {
    for (const Unit& unit : kBytes)
      if (unit.name == name && bytes != 0 && bytes % static_cast<int64_t>(unit.factor) == 0) best = unit;
  }
  return fmt::format("{}{}", bytes / static_cast<int64_t>(best.factor), best.name);
}

std::string FormatSeconds(double seconds) {
  const double milliseconds = seconds * 1e3;
  if (seconds != std::floor(seconds) && milliseconds == std::floor(milliseconds))
    return fmt::format("{}ms", milliseconds);
  return seconds < 1e-3 && seconds > 0 ? fmt::format("{}us", seconds * 1e6) : fmt::format("{}s", seconds);
}

}  // namespace moraine
