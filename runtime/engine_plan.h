// What an engine of these options would take of a machine: the request of planner.h, and the plan.
#pragma once

#include "cpu/cpu_backend.h"
#include "runtime/core/dense.h"
#include "runtime/core/result.h"
#include "runtime/engine.h"
#include "runtime/expert_layout.h"
#include "runtime/memory_limit.h"
#include "runtime/planner.h"
#include "storage/checkpoint.h"

namespace moraine {

/// Rows of logits computed at once when every position is wanted: 16 x 129,280 f32 = 8 MiB.
inline constexpr int32_t kLogitRows = 16;

struct EnginePlan {
  int64_t context = 0;  // positions of a sequence
  DenseOptions dense;
  std::vector<WeightFormat> expert_formats;
  PlanRequest request;
  Plan plan;
};

/// The ceiling over everything: `options.ram`, or what kernel and control groups allow less the margin. A
/// control group kills, so its limit stands above --ram. kHardware as FindMemoryLimit.
Result<MemoryLimit> RamLimit(const EngineOptions& options);

/// Allocates nothing; reads no weights, so a sparse checkpoint may be asked about. `cpu` gives the scratch of
/// its threads and `layout` was made for its nodes. Fit for Engine::Open, which does nothing else to find its
/// sizes. kUsage for options that cannot be, kDoesNotFit as MakePlan.
Result<EnginePlan> PlanEngine(const Checkpoint& checkpoint, const ExpertLayout& layout, const CpuBackend& cpu,
                              const EngineOptions& options, MemoryLimit ram);

}  // namespace moraine
