// What `moraine inspect` says of a checkpoint, as text and as JSON.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "storage/checkpoint.h"

namespace moraine::tools {

/// Figures that follow from shape and stored formats.
struct ModelFigures {
  int64_t parameters = 0;      // weights of all classes but mtp
  int64_t bytes = 0;           // their bytes, scales included
  int64_t routed_experts = 0;  // MoE layers x experts, MTP not counted
  int64_t experts_per_token = 0;
  int64_t expert_weights = 0;                // gate, up and down of one
  int64_t expert_bytes = 0;                  // of the largest, scales not counted
  int64_t expert_scale_bytes = 0;            // of the largest
  int64_t routed_bytes_per_token = 0;        // scales not counted
  int64_t routed_scale_bytes_per_token = 0;  // zeros of integers included
  int64_t kv_bytes_per_token = 0;            // BF16 latent cache
};
ModelFigures FiguresOf(const Checkpoint& checkpoint);

/// A page for people; `list_tensors` adds a line for each tensor.
std::string ReportText(const Checkpoint& checkpoint, bool list_tensors);

/// The same as one object. "schema" is raised when a field changes its meaning or goes; new fields may come.
nlohmann::ordered_json ReportJson(const Checkpoint& checkpoint, bool list_tensors);

}  // namespace moraine::tools
