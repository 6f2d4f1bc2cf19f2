// The choices of a trace in the place of a router's: on random weights, the locality of a real text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/core/dense.h"
#include "runtime/core/ids.h"
#include "runtime/core/model_shape.h"
#include "runtime/core/result.h"

namespace moraine::tools {

/// Rows of the trace are handed out one after another, the first again after the last; layer l of the model
/// takes the choices of the trace's layer l (counted over those with experts), around again where the trace
/// has fewer. Weights stay the router's.
class ForcedRouting {
 public:
  /// kIo for the file; kUsage where it has other experts than the model.
  static Result<ForcedRouting> Load(const std::string& path, const ModelShape& shape);

  /// For RouteOverride: points `routing` at the trace's choices, valid until the next call.
  void Apply(LayerId layer, Routing* routing);

  int64_t rows() const { return rows_; }

 private:
  int32_t first_layer_ = 0;
  int32_t layers_ = 0;
  int32_t top_k_ = 0;
  int64_t rows_ = 0;
  int64_t next_row_ = 0;          // of the step to come
  int64_t step_row_ = 0;          // of the step under way
  std::vector<int32_t> choices_;  // [row, layer, top_k]
  std::vector<int32_t> given_;    // [T, top_k]
};

}  // namespace moraine::tools
