// Read this first: one token's way through the model. T rows of x [T, H] live in `dense`; everything else is
// borrowed.
#include "runtime/decode_step.h"

namespace moraine {
namespace {

int32_t RowsOf(std::span<const SequenceRows> sequences) {
  return sequences.back().first_row + sequences.back().rows;
}

// Deleting this changes no result: it only has the drive read what the next layer will probably want.
Status Prefetch(StepParts& parts, LayerId next, int32_t rows) {
  const bool exists = next.value < parts.shape.layers && parts.shape.IsMoe(next);
  if (!exists || rows > kMostGuessRows) return {};
  const bool wanted = parts.cache.WantsGuess(next);
  if (!wanted && parts.trace == nullptr) return {};
  MORAINE_ASSIGN_OR_RETURN(const std::span<const int32_t> guess, parts.dense.GuessExperts(next));
  if (parts.trace != nullptr) parts.trace->Guessed(guess);
  if (wanted) parts.cache.LookAhead(next, guess);
  return {};
}

Status Layer(StepParts& parts, LayerId layer, bool single_rows) {
  StepClock clock;
  // attend: x += attention(norm(x)); n = norm(x)                             MLA over the paged, compressed
  // cache
  MORAINE_RETURN_IF_ERROR(parts.dense.Attend(layer));
  if (!parts.shape.IsMoe(layer)) {
    Status done = parts.dense.DenseMlp(layer);  // x += mlp(n): the first layers
    clock.Lap(&parts.seconds.dense);
    return done;
  }

  // route: n [T, H] -> expert ids and weights [T, K]
  MORAINE_ASSIGN_OR_RETURN(Routing routing, parts.dense.Route(layer));
  if (parts.override_route) parts.override_route(layer, &routing);
  if (parts.observer) parts.observer(layer, routing);
  if (parts.trace != nullptr) parts.trace->Routed(layer, routing, parts.cache);

  // look up: each chosen expert once, ascending, with the rows that chose it; what is missing is being read
  std::span<ExpertWork> work = parts.grouping.Group(routing);
  parts.cache.BeginLayer(layer, routing);
  MORAINE_ASSIGN_OR_RETURN(size_t count, parts.cache.Next(work));

  // issue: the shared expert takes what time the reads take; then the routed ones, as their weights come
  MORAINE_RETURN_IF_ERROR(parts.dense.SharedMlp(layer));
  MORAINE_RETURN_IF_ERROR(Prefetch(parts, LayerId{layer.value + 1}, routing.rows));
  clock.Lap(&parts.seconds.dense);
  ExpertBatch batch{.layer = layer,
                    .rows = routing.rows,
                    .inputs = routing.inputs,
                    .work = work.first(count),
                    .single_rows = single_rows};
  MORAINE_ASSIGN_OR_RETURN(ExpertSum sum, parts.experts.Run(batch));
  for (work = work.subspan(count); !work.empty(); work = work.subspan(count)) {
    // More than there are slots for: the slots of what has run take what follows.
    MORAINE_RETURN_IF_ERROR(sum.done.Wait());
    parts.cache.Release();
    MORAINE_ASSIGN_OR_RETURN(count, parts.cache.Next(work));
    batch.work = work.first(count);
    batch.resume = true;
    MORAINE_ASSIGN_OR_RETURN(sum, parts.experts.Run(batch));
  }

  // combine: x += shared + routed, always in this order; only this waits
  MORAINE_RETURN_IF_ERROR(parts.dense.Combine(layer, {&sum, 1}));
  parts.cache.Release();
  clock.Lap(&parts.seconds.experts);
  if (parts.trace != nullptr) parts.trace->EndLayer();
  return {};
}

}  // namespace

Status DecodeStep(StepParts& parts, std::span<const SequenceRows> sequences,
                  std::span<const float> embedded) {
  MORAINE_RETURN_IF_ERROR(parts.dense.Begin(sequences, embedded));
  parts.cache.BeginStep(RowsOf(sequences));
  for (int32_t layer = 0; layer < parts.shape.layers; ++layer) {
    MORAINE_RETURN_IF_ERROR(Layer(parts, LayerId{layer}, AreSingleRows(sequences)));
  }
  return {};
}

Status MtpStep(StepParts& parts, LayerId layer, std::span<const SequenceRows> sequences,
               std::span<const float> embedded, std::span<const float> hidden) {
  MORAINE_RETURN_IF_ERROR(parts.dense.BeginMtp(layer, sequences, embedded, hidden));
  parts.cache.BeginStep(RowsOf(sequences));
  return Layer(parts, layer, AreSingleRows(sequences));
}

}  // namespace moraine
