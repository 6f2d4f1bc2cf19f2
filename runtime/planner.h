// The plan: how the memory a process may hold is divided. The only place where bytes are added up.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "runtime/core/model_shape.h"
#include "runtime/core/result.h"
#include "runtime/core/tensor_class.h"
#include "runtime/expert_layout.h"
#include "runtime/memory_limit.h"

namespace moraine {

/// What is known before anything large is taken. Bytes; doubles where a hostile shape may pass 2^63.
struct PlanRequest {
  MemoryLimit ram;      // the ceiling over everything
  int64_t process = 0;  // what the process holds before it loads, and its threads and libraries will
  std::array<int64_t, kTensorClasses> weights{};  // that stay resident (ModelWeights::BytesNeeded)
  double kv = 0;
  double disk_buffers = 0;  // between KV pages and the drive
  double scratch = 0;
  int64_t kv_bytes_per_token = 0;
  int64_t expert_bytes = 0;        // of one routed expert as stored
  std::vector<SlotClass> classes;  // empty in a model without experts
  std::optional<int64_t> slots;    // in all; empty: as many as fit
  std::optional<int32_t> staging;  // of each class; empty: see StagingSlots
};

struct PlanTier {
  std::string name;  // "ram", "nvme"
  int64_t have = 0;  // bytes; of nvme: what the model's experts take
  int64_t used = 0;
  std::vector<std::pair<std::string, int64_t>> classes;  // class and bytes; sums to used
  int64_t left() const { return have - used; }
};

struct Plan {
  std::vector<PlanTier> tiers;
  std::vector<int32_t> slots;  // [class of experts]
  int32_t staging = 0;         // of each class's slots, where they do not hold all
  int32_t floor = 0;           // kept slots that other layers cannot take
  bool holds_all = false;
  int64_t kv_bytes_per_token = 0;
  int64_t routed_experts = 0;
  int64_t experts_per_token = 0;
  int64_t expert_bytes = 0;
  std::vector<std::string> reasons;   // why it is so, one line each
  std::vector<std::string> warnings;  // what the user should know

  const PlanTier& tier(const std::string& name) const;
};

/// Slots of a class where missing experts land: two batches of top-k, one computed while the other is read.
/// More where there are many, so that a prompt's layers go in larger batches.
int32_t StagingSlots(int32_t top_k, int64_t slots);

/// Pure. kDoesNotFit lists every class and what is short. The least that runs is StagingSlots of each class.
Result<Plan> MakePlan(const ModelShape& shape, const PlanRequest& request);

/// Plan JSON, one object: schema, model, tiers, kv_bytes_per_token, routed_experts, experts_per_token,
/// expert_bytes, slots, reasons, warnings.
std::string PlanJson(const ModelShape& shape, const Plan& plan);

/// "1.50 GiB", "12.0 MiB".
std::string HumanBytes(double bytes);

}  // namespace moraine
