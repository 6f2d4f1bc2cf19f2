// Read this first: one token's way through the model. T rows of x [T, H] live in `dense`; everything else is
// borrowed.
#include "runtime/decode_step.h"

namespace moraine {
namespace {

Status Layer(StepParts& parts, LayerId layer) {
  // attend: x += attention(norm(x)); n = norm(x)                             MLA over the paged, compressed
  // cache
  MORAINE_RETURN_IF_ERROR(parts.dense.Attend(layer));
  if (!parts.shape.IsMoe(layer)) return parts.dense.DenseMlp(layer);  // x += mlp(n): the first layers

  // route: n [T, H] -> expert ids and weights [T, K]
  MORAINE_ASSIGN_OR_RETURN(const Routing routing, parts.dense.Route(layer));
  if (parts.observer) parts.observer(layer, routing);

  // look up: each chosen expert once, ascending, with the rows that chose it
  const std::span<ExpertWork> work = parts.grouping.Group(routing);
  for (ExpertWork& item : work) item.slices = parts.weights.Expert(layer, item.expert);
  parts.experts_read += static_cast<int64_t>(work.size());

  // issue: routed experts first, they take longest; the shared expert meanwhile
  MORAINE_ASSIGN_OR_RETURN(
      const ExpertSum sum,
      parts.experts.Run({.layer = layer, .rows = routing.rows, .inputs = routing.inputs, .work = work}));
  MORAINE_RETURN_IF_ERROR(parts.dense.SharedMlp(layer));

  // combine: x += shared + routed, always in this order; only this waits
  return parts.dense.Combine(layer, {&sum, 1});
}

}  // namespace

Status DecodeStep(StepParts& parts, std::span<const SequenceRows> sequences,
                  std::span<const float> embedded) {
  MORAINE_RETURN_IF_ERROR(parts.dense.Begin(sequences, embedded));
  for (int32_t layer = 0; layer < parts.shape.layers; ++layer) {
    MORAINE_RETURN_IF_ERROR(Layer(parts, LayerId{layer}));
  }
  return {};
}

Status MtpStep(StepParts& parts, LayerId layer, std::span<const SequenceRows> sequences,
               std::span<const float> embedded, std::span<const float> hidden) {
  MORAINE_RETURN_IF_ERROR(parts.dense.BeginMtp(layer, sequences, embedded, hidden));
  return Layer(parts, layer);
}

}  // namespace moraine
