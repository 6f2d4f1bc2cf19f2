#include "runtime/planner.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "runtime/core/check.h"

namespace moraine {
namespace {

constexpr int kSchema = 1;

struct Need {
  std::string name;
  double bytes;
};

// What the process holds whatever becomes of the experts.
std::vector<Need> FixedNeeds(const PlanRequest& r) {
  std::vector<Need> needs;
  for (size_t c = 0; c < r.weights.size(); ++c) {
    // Of routed experts only the scales of FP8 blocks stay whatever happens.
    const auto name = static_cast<TensorClass>(c);
    if (r.weights[c] > 0)
      needs.push_back({name == TensorClass::kRouted ? "expert scales" : std::string(Name(name)),
                       static_cast<double>(r.weights[c])});
  }
  needs.push_back({"kv", r.kv});
  if (r.disk_buffers > 0) needs.push_back({"disk buffers", r.disk_buffers});
  needs.push_back({"scratch", r.scratch});
  needs.push_back({"process", static_cast<double>(r.process)});
  return needs;
}

double Sum(const std::vector<Need>& needs) {
  return std::accumulate(needs.begin(), needs.end(), 0.0,
                         [](double sum, const Need& need) { return sum + need.bytes; });
}

std::string List(const std::vector<Need>& needs) {
  std::vector<std::string> parts;
  parts.reserve(needs.size());
  for (const Need& need : needs) parts.push_back(fmt::format("{} {}", need.name, HumanBytes(need.bytes)));
  return fmt::format("{}", fmt::join(parts, " + "));
}

int64_t Keys(const SlotClass& c, const ModelShape& shape) { return int64_t{c.layers} * shape.experts; }

// Slots of each class for `budget` bytes, or for `wanted` slots in all: the least each, and so many a layer
// more, the same number for all, that just fits; a class that is full takes no more. That number only grows
// with the budget, and so do all classes.
std::vector<int32_t> Divide(const ModelShape& shape, const PlanRequest& r, double budget) {
  const size_t count = r.classes.size();
  std::vector<double> slots(count);
  const auto wanted = static_cast<double>(r.slots.value_or(INT64_MAX));
  const auto fits = [&](double per_layer) {
    double bytes = 0;
    double sum = 0;
    for (size_t c = 0; c < count; ++c) {
      const auto keys = static_cast<double>(Keys(r.classes[c], shape));
      const double least = std::min<double>(StagingSlots(shape.top_k, 0), keys);
      // The small amount makes up for a product just below a whole number.
      slots[c] = std::min(keys, least + std::floor(per_layer * r.classes[c].layers + 1e-6));
      bytes += slots[c] * static_cast<double>(r.classes[c].bytes());
      sum += slots[c];
    }
    return bytes <= budget && sum <= wanted;
  };
  double low = 0;
  double high = shape.experts;
  if (!fits(high)) {
    // Down to neighbouring numbers.
    for (double middle = high / 2; middle > low && middle < high; middle = low + (high - low) / 2)
      (fits(middle) ? low : high) = middle;
    fits(low);
  }
  return {slots.begin(), slots.end()};
}

}  // namespace

std::string HumanBytes(double bytes) {
  if (bytes >= 0x1p30) return fmt::format("{:.2f} GiB", bytes / 0x1p30);
  if (bytes >= 0x1p20) return fmt::format("{:.1f} MiB", bytes / 0x1p20);
  return bytes >= 0x1p10 ? fmt::format("{:.1f} KiB", bytes / 0x1p10) : fmt::format("{:.0f} B", bytes);
}

const PlanTier& Plan::tier(const std::string& name) const {
  const auto at = std::find_if(tiers.begin(), tiers.end(), [&](const PlanTier& t) { return t.name == name; });
  MORAINE_CHECK(at != tiers.end());
  return *at;
}

int32_t StagingSlots(int32_t top_k, int64_t slots) {
  const int32_t least = 2 * top_k;
  return static_cast<int32_t>(std::clamp<int64_t>(slots / 16, least, 4 * least));
}

Result<Plan> MakePlan(const ModelShape& shape, const PlanRequest& r) {
  std::vector<Need> needs = FixedNeeds(r);
  const auto have = static_cast<double>(r.ram.bytes);
  const double fixed = Sum(needs);
  double least = 0;
  double all = 0;
  int64_t keys = 0;
  for (const SlotClass& c : r.classes) {
    keys += Keys(c, shape);
    const double bytes = static_cast<double>(c.bytes());
    least += bytes * static_cast<double>(std::min<int64_t>(StagingSlots(shape.top_k, 0), Keys(c, shape)));
    all += bytes * static_cast<double>(Keys(c, shape));
  }
  if (fixed + least > have) {
    if (least > 0) needs.push_back({"expert slots (at least)", least});
    return Fail(
        ErrorKind::kDoesNotFit,
        fmt::format("does not fit: {} = {} are needed, {} allows {}: short by {} (a smaller --ctx shrinks "
                    "the KV cache; more memory or smaller formats the rest)",
                    List(needs), HumanBytes(fixed + least), r.ram.source, HumanBytes(have),
                    HumanBytes(fixed + least - have)));
  }
  Plan plan{.kv_bytes_per_token = r.kv_bytes_per_token,
            .routed_experts = keys,
            .experts_per_token = 0,
            .expert_bytes = r.expert_bytes};
  for (const SlotClass& c : r.classes) plan.experts_per_token += int64_t{c.layers} * shape.top_k;
  PlanTier ram{.name = "ram", .have = r.ram.bytes};
  for (const Need& need : needs) ram.classes.emplace_back(need.name, static_cast<int64_t>(need.bytes));
  plan.reasons.push_back(fmt::format("ram: {} from {}", HumanBytes(have), r.ram.source));
  if (!r.classes.empty()) {
    plan.slots = Divide(shape, r, have - fixed);
    int64_t slots = 0;
    int64_t slot_bytes = 0;
    for (size_t c = 0; c < plan.slots.size(); ++c) {
      slots += plan.slots[c];
      slot_bytes += plan.slots[c] * r.classes[c].bytes();
    }
    plan.holds_all = slots == keys;
    plan.staging =
        r.staging.value_or(StagingSlots(shape.top_k, slots / static_cast<int64_t>(plan.slots.size())));
    plan.floor = plan.holds_all ? 0 : shape.top_k / 2;
    ram.classes.emplace_back("routed (slots)", slot_bytes);
    plan.reasons.push_back(
        plan.holds_all
            ? fmt::format("all {} routed experts have a slot", keys)
            : fmt::format("{} slots for {} routed experts: {} is left of {} when the rest is placed", slots,
                          keys, HumanBytes(have - fixed), HumanBytes(have)));
    if (slots < plan.experts_per_token) {
      const double missing = static_cast<double>(plan.experts_per_token - slots);
      plan.warnings.push_back(
          fmt::format("{} slots are fewer than the {} experts a token runs: at least {} come from the drive "
                      "for every token "
                      "({})",
                      slots, plan.experts_per_token, static_cast<int64_t>(missing),
                      HumanBytes(missing * static_cast<double>(r.expert_bytes))));
    }
    plan.tiers.push_back(ram);
    const int64_t on_drive = (keys - slots) * r.expert_bytes;
    plan.tiers.push_back(
        {.name = "nvme", .have = keys * r.expert_bytes, .used = on_drive, .classes = {{"routed", on_drive}}});
  } else {
    plan.tiers.push_back(ram);
  }
  PlanTier& first = plan.tiers.front();
  for (const auto& [name, bytes] : first.classes) first.used += bytes;
  MORAINE_CHECK(first.used <= first.have);
  return plan;
}

std::string PlanJson(const ModelShape& shape, const Plan& plan) {
  nlohmann::ordered_json json;
  json["schema"] = kSchema;
  json["model"] = {{"layers", shape.layers},
                   {"hidden", shape.hidden},
                   {"experts", shape.experts},
                   {"top_k", shape.top_k},
                   {"context", shape.context}};
  for (const PlanTier& tier : plan.tiers) {
    nlohmann::ordered_json classes = nlohmann::ordered_json::object();
    for (const auto& [name, bytes] : tier.classes) classes[name] = bytes;
    json["tiers"].push_back({{"name", tier.name},
                             {"have", tier.have},
                             {"used", tier.used},
                             {"left", tier.left()},
                             {"classes", classes}});
  }
  json["kv_bytes_per_token"] = plan.kv_bytes_per_token;
  json["routed_experts"] = plan.routed_experts;
  json["experts_per_token"] = plan.experts_per_token;
  json["expert_bytes"] = plan.expert_bytes;
  json["slots"] = plan.slots;
  json["reasons"] = plan.reasons;
  json["warnings"] = plan.warnings;
  return json.dump();
}

}  // namespace moraine
