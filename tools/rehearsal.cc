#include "tools/rehearsal.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "runtime/core/json_guard.h"
#include "runtime/forecast.h"
#include "tools/bench/read_bandwidth.h"

namespace moraine::tools {
namespace {

// Headers, config.json, the index.
constexpr int64_t kBesideWeights = int64_t{8} << 20;

}  // namespace

RehearsalBytes BytesOf(const Checkpoint& checkpoint) {
  const ModelShape& shape = checkpoint.shape();
  RehearsalBytes bytes;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    const int64_t stored = tensor.range.bytes + tensor.scale_bytes();
    if (tensor.id.layer.value < shape.dense_layers) bytes.rest += stored;
    if (tensor.id.layer.value == shape.dense_layers) bytes.moe_layer += stored;
  }
  return bytes;
}

Result<RehearsalLayers> ChooseLayers(const ModelShape& shape, const RehearsalBytes& bytes, int64_t disk,
                                     int32_t most) {
  const int32_t all = shape.moe_layers();
  const int32_t least = shape.dense_layers > 0 ? 0 : 1;
  if (all < least + 1) return Fail(ErrorKind::kUsage, "the model has no layers with experts to rehearse");
  const int64_t fixed = 2 * (bytes.rest + kBesideWeights);
  const int64_t fit = bytes.moe_layer == 0 ? 0 : std::max<int64_t>(0, disk - fixed) / bytes.moe_layer;
  const auto layers = static_cast<int32_t>(std::min<int64_t>(fit, int64_t{most} + 1));
  if (layers < 2 * least + 1) {
    const int64_t need = fixed + (2 * least + 1) * bytes.moe_layer;
    return Fail(
        ErrorKind::kDoesNotFit,
        fmt::format("a rehearsal with one MoE layer needs {} on the drive ({} for the layer, twice {} "
                    "for the rest); --disk allows {}: short by {}",
                    HumanBytes(static_cast<double>(need)), HumanBytes(static_cast<double>(bytes.moe_layer)),
                    HumanBytes(static_cast<double>(bytes.rest)), HumanBytes(static_cast<double>(disk)),
                    HumanBytes(static_cast<double>(need - disk))));
  }
  RehearsalLayers chosen;
  chosen.low = std::min(all - 1, layers >= 4 ? 1 : least);
  chosen.high = std::min({layers - chosen.low, std::max(most, chosen.low + 1), all});
  chosen.bytes = fixed + (chosen.low + chosen.high) * bytes.moe_layer;
  return chosen;
}

Result<std::string> RehearsalConfig(const std::string& config_text, const ModelShape& shape,
                                    int32_t moe_layers) {
  MORAINE_ASSIGN_OR_RETURN(nlohmann::json config, ParseJson(config_text, "config.json"));
  if (!config.is_object()) return Fail(ErrorKind::kModel, "config.json: expected an object");
  config["num_hidden_layers"] = shape.dense_layers + moe_layers;
  config["first_k_dense_replace"] = shape.dense_layers;
  config["num_nextn_predict_layers"] = 0;
  config.erase("num_mtp_layers");
  return config.dump();
}

std::optional<int64_t> RehearsalSlots(const ModelShape& shape, const Plan& plan, int32_t moe_layers) {
  if (plan.holds_all) return std::nullopt;
  const int64_t keys = int64_t{moe_layers} * shape.experts;
  const auto share = static_cast<int64_t>(std::llround(SlotShare(plan) * static_cast<double>(keys)));
  return std::min(keys, std::max<int64_t>(share, StagingSlots(shape.top_k, 0)));
}

Result<Extrapolation> Extrapolate(std::span<const RehearsalPair> pairs, const RehearsalLayers& layers,
                                  int32_t moe_layers) {
  std::vector<double> rests;
  std::vector<double> each;
  std::vector<double> steps;
  for (const RehearsalPair& pair : pairs) {
    const double layer = (pair.high_s - pair.low_s) / (layers.high - layers.low);
    const double rest = pair.low_s - layer * layers.low;
    each.push_back(layer);
    rests.push_back(rest);
    steps.push_back(rest + layer * moe_layers);
  }
  if (each.empty() || !(Median(each) > 0) || !(Median(steps) > 0)) {
    return Fail(ErrorKind::kInternal,
                fmt::format("{} MoE layers took no longer than {}: something else keeps this machine busy; "
                            "rehearse again, with more --tokens",
                            layers.high, layers.low));
  }
  const auto [fastest, slowest] = std::minmax_element(steps.begin(), steps.end());
  return Extrapolation{.rest_s = Median(rests),
                       .moe_layer_s = Median(each),
                       .step_s = Median(steps),
                       .fastest_s = std::max(*fastest, 0.0),
                       .slowest_s = *slowest};
}

}  // namespace moraine::tools
