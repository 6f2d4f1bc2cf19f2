#include "policies/hit_curve.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "runtime/core/check.h"

namespace moraine {
namespace {

struct Point {
  double share;
  HitRate rate;
};
using Points = std::array<Point, 14>;

struct Curve {
  std::string_view name;
  std::string_view source;
  Points points;
};

// Each column is a replay (policies/replay.h) of MakeRouting's routing through policy ewma: 6 layers, 256
// experts, 8 a token, 2000 tokens, 16 staging slots, floor 4. Zipf exponent, overlap, memory: low 0.6, 0.5,
// 64; expected 0.8, 0.4, 16; high 1.0, 0.3, 16; even 0, 0, 1. tests/policies/hit_curve_test.cc replays some
// of them again. Beside them, published hit rates: of a 256-expert model 38 to 55 % with 12 to 15 % resident,
// 71 % with 22 %, 98 % with 76 %; of a 128-expert model under LRU 38, 53, 73 % with 6, 12, 25 %.
constexpr std::array<Curve, 2> kCurves = {{
    {"drifting",
     "replays of made-up routing with a drifting hot set, between published traces",
     {{{0, {0, 0, 0}},
       {0.01, {0.047, 0.078, 0.113}},
       {0.03, {0.123, 0.194, 0.278}},
       {0.06, {0.220, 0.320, 0.434}},
       {0.125, {0.356, 0.475, 0.594}},
       {0.25, {0.527, 0.650, 0.741}},
       {0.375, {0.654, 0.757, 0.823}},
       {0.5, {0.753, 0.831, 0.876}},
       {0.625, {0.831, 0.883, 0.916}},
       {0.75, {0.895, 0.926, 0.945}},
       {0.875, {0.948, 0.959, 0.967}},
       {0.95, {0.972, 0.976, 0.978}},
       {0.99, {0.982, 0.983, 0.983}},
       {1, {1, 1, 1}}}}},
    {"even",
     "replays of even routing: what a cache can do when nothing repeats",
     {{{0, {0, 0, 0}},
       {0.01, {0.005, 0.005, 0.005}},
       {0.03, {0.020, 0.020, 0.020}},
       {0.06, {0.050, 0.050, 0.050}},
       {0.125, {0.116, 0.116, 0.116}},
       {0.25, {0.240, 0.240, 0.240}},
       {0.375, {0.367, 0.367, 0.367}},
       {0.5, {0.491, 0.491, 0.491}},
       {0.625, {0.616, 0.616, 0.616}},
       {0.75, {0.743, 0.743, 0.743}},
       {0.875, {0.864, 0.864, 0.864}},
       {0.95, {0.936, 0.936, 0.936}},
       {0.99, {0.975, 0.975, 0.975}},
       {1, {1, 1, 1}}}}},
}};

const Curve* Find(std::string_view name) {
  const auto* at =
      std::find_if(kCurves.begin(), kCurves.end(), [&](const Curve& curve) { return curve.name == name; });
  return at == kCurves.end() ? nullptr : at;
}

}  // namespace

std::vector<std::string_view> HitCurveNames() {
  std::vector<std::string_view> names;
  for (const Curve& curve : kCurves) names.push_back(curve.name);
  return names;
}

Status CheckHitCurve(std::string_view name) {
  if (Find(name) != nullptr) return {};
  return Fail(ErrorKind::kUsage, fmt::format("hit curve \"{}\" is not known; there are: {}", name,
                                             fmt::join(HitCurveNames(), ", ")));
}

HitRate HitRateOf(std::string_view name, double share) {
  const Curve* curve = Find(name);
  MORAINE_CHECK(curve != nullptr);
  const Points& points = curve->points;
  if (!(share > 0)) return points.front().rate;
  const auto* next =
      std::find_if(points.begin(), points.end(), [&](const Point& point) { return share <= point.share; });
  if (next == points.end()) return points.back().rate;
  const Point& before = *(next - 1);
  const double part = (share - before.share) / (next->share - before.share);
  const auto between = [&](double HitRate::*value) {
    return before.rate.*value + part * (next->rate.*value - before.rate.*value);
  };
  return {between(&HitRate::low), between(&HitRate::expected), between(&HitRate::high)};
}

std::string_view HitCurveSource(std::string_view name) {
  const Curve* curve = Find(name);
  MORAINE_CHECK(curve != nullptr);
  return curve->source;
}

}  // namespace moraine
