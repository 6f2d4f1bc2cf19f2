// Which form of MLA takes less time for the new rows of one sequence. Pure.
#pragma once

#include <cstdint>

#include "runtime/core/dense.h"
#include "runtime/core/model_shape.h"

namespace moraine {

/// Multiply-adds per head, both ways (DeepSeek-V2, arXiv 2405.04434, section 2.1): for `rows` new rows over
/// `positions` in all,
///   absorbed: rows R (nope + v) + rows positions (2R + P)        expanded: positions R (nope + v) + rows
///   positions (nope + P + v)
/// those of the expanded form being several times as fast.
/// A single row is always absorbed, so that decode does not depend on how long the context is.
AttentionMode ChooseAttentionMode(const ModelShape& shape, int64_t rows, int64_t positions);

}  // namespace moraine
