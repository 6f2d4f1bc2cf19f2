// The formats routed experts can be written in, and how compressed-tensors says so.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/quant_format.h"
#include "runtime/core/result.h"
#include "storage/convert/shard_plan.h"

namespace moraine {

struct ExpertFormat {
  WeightFormat format = WeightFormat::kBf16;
  int64_t group = 0;  // of integers: columns to a scale; 0: the row
};

/// "int8-g128", "int4-g64", "int8-row", "bf16", "f16", "f32": as `moraine inspect` prints them. Groups are
/// 32, 64 or 128. kUsage lists them.
Result<ExpertFormat> ParseExpertFormat(std::string_view text);

/// The group a matrix of `columns` columns gets: a row shorter than a group has one scale. kUsage when the
/// group does not divide a longer row; `name` is for the message.
Result<int64_t> GroupFor(const ExpertFormat& format, int64_t columns, const std::string& name);

/// The tensors that store a matrix `name` ("....up_proj.weight") in a format: integers are weight_packed,
/// weight_scale (BF16) and weight_shape, in this order; others the one of its name.
std::vector<NewTensor> ExpertTensors(const std::string& name, int64_t rows, int64_t columns,
                                     const ExpertFormat& format, int64_t group);

/// config_groups for all routed experts of a model with these sizes, in an integer format: one, or two where
/// gate and up have groups and the shorter rows of down do not. kUsage as GroupFor.
Result<std::vector<nlohmann::ordered_json>> ExpertGroups(const ExpertFormat& format, int64_t hidden,
                                                         int64_t expert_inter);
/// One of config_groups: FP8 blocks with activations quantised as they come, which is R1's own scheme.
nlohmann::ordered_json Fp8Group(int32_t block_rows, int32_t block_columns,
                                const std::vector<std::string>& targets);
/// quantization_config over groups named group_0, group_1, ... `ignore` is what no target may match.
nlohmann::ordered_json CompressedTensorsConfig(const std::vector<nlohmann::ordered_json>& groups,
                                               const std::vector<std::string>& ignore);

}  // namespace moraine
