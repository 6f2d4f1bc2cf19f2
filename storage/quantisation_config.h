// quantization_config of a config.json: DeepSeek's own FP8 blocks, and compressed-tensors.
//
// Of compressed-tensors, the formats pack-quantized and int-quantized (integers of 4 or 8 bits, one scale a
// group of columns or a row, with zero points or without) and float-quantized with strategy "block" (the FP8
// of DeepSeek under other names; "naive-quantized" is how either is called too), alone or side by side
// ("mixed-precision"). `targets` and `ignore` are checked to
// be lists of strings and not matched: whether a weight is quantised, and how, is what its tensors say, and a
// regular expression of somebody else's making need not be run to learn it.
//
// Dynamic quantisation of activations is ignored. It is a device for speed that approximates the product of
// stored weights with unquantised inputs, which is what this runtime computes (as it does for FP8's
// activation_scheme). Static quantisation clamps to ranges stored in the checkpoint and is part of the model:
// it is refused by name, and so is all else that would change the arithmetic (transforms, sparsity, a
// quantised KV cache, columns reordered by activation).
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "runtime/core/model_shape.h"
#include "runtime/core/result.h"

namespace moraine {

/// Sets shape.fp8 and shape.integer from `object`. kModel names the field, what was found and what is
/// expected.
Status ReadQuantisation(const nlohmann::json& object, ModelShape& shape);

}  // namespace moraine
