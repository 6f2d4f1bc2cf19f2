// Tensor names of Hugging Face DeepSeek checkpoints, both ways.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "runtime/core/tensor_class.h"

namespace moraine {

/// "model.layers.3.mlp.experts.7.up_proj.weight". `id` has a layer and an expert where its role needs them.
std::string HfName(const WeightId& id);

/// What a name says of itself; whether the model has such a weight is the caller's question.
struct ParsedName {
  enum class Kind {
    kWeight,  // `id` is the weight
    // Parts of the weight `id`, each stored under its name with an ending:
    kBlockScale,  // "_scale_inv": DeepSeek's FP8 block scales
    kScale,       // "_scale": compressed-tensors' scales
    kPacked,      // "_packed": its integers
    kZeroPoint,   // "_zero_point"
    kShape,       // "_shape"
    kGroupIndex,  // "_g_idx": the group of each column
    kBias,        // "....bias" beside the weight `id`, a bias this runtime does not add
    kOther,       // no name of the scheme; `layer` is set when it begins with "model.layers.N."
  };
  Kind kind = Kind::kOther;
  WeightId id;
  std::optional<int32_t> layer;
};
ParsedName ParseHfName(std::string_view name);

/// What the name of such a part adds to its weight's: "_packed"; empty for a weight. Static storage.
std::string_view Ending(ParsedName::Kind part);
/// The name of a part of `id`: "....up_proj.weight_packed". kWeight is the weight itself.
std::string PartName(const WeightId& id, ParsedName::Kind part);

}  // namespace moraine
