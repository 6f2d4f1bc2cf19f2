#include "tools/replay_sweep.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "policies/belady.h"
#include "policies/replay.h"
#include "tools/svg_plot.h"

namespace moraine::tools {
namespace {

constexpr std::string_view kBelady = "belady";
constexpr std::string_view kBypass = "belady-bypass";

bool IsBound(std::string_view policy) { return policy == kBelady || policy == kBypass; }

Status CheckPolicies(const std::vector<std::string>& policies) {
  for (const std::string& policy : policies) {
    const auto known = EvictionNames();
    if (IsBound(policy) || std::find(known.begin(), known.end(), policy) != known.end()) continue;
    return Fail(ErrorKind::kUsage, fmt::format("--policies has \"{}\"; known are {}, {}, {}", policy,
                                               fmt::join(known, ", "), kBelady, kBypass));
  }
  return {};
}

Result<int32_t> FloorOf(const std::string& text, int32_t kept, int32_t layers) {
  if (text == "uniform") return kept / layers;
  int32_t floor = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, floor);
  if (error != std::errc() || rest != end || floor < 0)
    return Fail(ErrorKind::kUsage,
                fmt::format("--floors has \"{}\"; expected a number of experts or uniform", text));
  return floor;
}

void Price(const SweepOptions& options, SweepRow* row) {
  if (row->tokens == 0) return;
  const double a_token = static_cast<double>(options.expert_bytes) / static_cast<double>(row->tokens);
  row->bytes_per_token = a_token * static_cast<double>(row->misses);
  const double drive = row->bytes_per_token / options.nvme * 1e3;
  const double memory = a_token * static_cast<double>(row->hits + row->misses) / options.memory * 1e3;
  row->ms_after = drive + memory;
  row->ms_beside = std::max(drive, memory);
}

int64_t DecodeTokens(const RoutingTrace& trace) {
  int64_t tokens = 0;
  for (const RoutingTrace::Step& step : trace.steps) tokens += step.decode ? step.rows : 0;
  return tokens;
}

SweepRow Bound(const RoutingTrace& trace, bool bypass, SweepRow row) {
  const BeladyHits bound = Belady(trace, row.slots, bypass);
  row.tokens = DecodeTokens(trace);
  row.hits = bound.decode_hits;
  row.misses = bound.decode_accesses - bound.decode_hits;
  if (row.tokens > 0) return row;
  for (const RoutingTrace::Step& step : trace.steps) row.tokens += step.rows;
  row.hits = bound.hits;
  row.misses = bound.accesses - bound.hits;
  return row;
}

Result<SweepRow> Run(const RoutingTrace& trace, const SweepOptions& options, SweepRow row) {
  SlotTableOptions table{.layers = trace.layers,
                         .experts = trace.experts,
                         .slots = row.slots,
                         .staging = std::min(options.staging, std::max(1, row.slots / 2)),
                         .second_touch = options.second_touch};
  MORAINE_ASSIGN_OR_RETURN(table.floor, FloorOf(row.floor, row.slots - table.staging, trace.layers));
  EvictionOptions eviction = options.eviction;
  eviction.policy = row.policy;
  if (row.policy == "pinned") eviction.profile = CountUses(trace);
  MORAINE_ASSIGN_OR_RETURN(const ReplayResult result, Replay(trace, table, eviction));
  const ReplayCounters& counters = result.decode.tokens > 0 ? result.decode : result.prefill;
  row.tokens = counters.tokens;
  row.hits = counters.hits;
  row.misses = counters.misses;
  row.promoted = result.all.promoted;
  return row;
}

}  // namespace

Result<std::vector<SweepRow>> Sweep(const RoutingTrace& trace, const SweepOptions& options) {
  MORAINE_RETURN_IF_ERROR(CheckPolicies(options.policies));
  const int32_t keys = trace.layers * trace.experts;
  std::vector<SweepRow> rows;
  for (const int32_t slots : options.slots) {
    if (slots < 1) return Fail(ErrorKind::kUsage, fmt::format("--slots has {}; expected 1 or more", slots));
    for (const std::string& policy : options.policies) {
      SweepRow row{.policy = policy, .slots = slots, .fraction = static_cast<double>(slots) / keys};
      if (IsBound(policy)) {
        rows.push_back(Bound(trace, policy == kBypass, row));
        continue;
      }
      for (const std::string& floor : options.floors) {
        row.floor = floor;
        MORAINE_ASSIGN_OR_RETURN(SweepRow done, Run(trace, options, row));
        rows.push_back(std::move(done));
      }
    }
  }
  for (SweepRow& row : rows) Price(options, &row);
  return rows;
}

std::string SweepText(const std::vector<SweepRow>& rows) {
  std::string text =
      fmt::format("{:>7} {:>6}  {:<14} {:<8} {:>8} {:>14} {:>10} {:>10} {:>10}\n", "slots", "share", "policy",
                  "floor", "hit rate", "drive MB/token", "ms summed", "ms beside", "promoted");
  int32_t slots = rows.empty() ? 0 : rows.front().slots;
  for (const SweepRow& row : rows) {
    if (row.slots != slots) text += "\n";
    slots = row.slots;
    text += fmt::format("{:>7} {:>5.1f}%  {:<14} {:<8} {:>7.2f}% {:>14.1f} {:>10.1f} {:>10.1f} {:>10}\n",
                        row.slots, 100 * row.fraction, row.policy, row.floor, 100 * row.hit_rate(),
                        row.bytes_per_token / 1e6, row.ms_after, row.ms_beside, row.promoted);
  }
  return text;
}

std::string SweepSvg(const std::string& title, const std::vector<SweepRow>& rows) {
  Plot plot{.title = title, .x_name = "slots, % of all experts", .y_name = "hit rate, %"};
  for (const SweepRow& row : rows) {
    const std::string name = row.floor.empty() || row.floor == "0"
                                 ? row.policy
                                 : fmt::format("{}, floor {}", row.policy, row.floor);
    auto curve =
        std::find_if(plot.curves.begin(), plot.curves.end(), [&](const Curve& c) { return c.name == name; });
    if (curve == plot.curves.end())
      curve = plot.curves.insert(curve, {.name = name, .dashed = IsBound(row.policy)});
    curve->points.emplace_back(100 * row.fraction, 100 * row.hit_rate());
  }
  for (Curve& curve : plot.curves) std::sort(curve.points.begin(), curve.points.end());
  return SvgOf(plot);
}

}  // namespace moraine::tools
