// Dense: all of a layer that is not a routed expert. One interface, a CPU and a CUDA implementation, one test
// body.
//
// A step carries T rows (new tokens of one or several sequences) through the layers:
//   Begin, then per layer Attend and either DenseMlp or { Route, SharedMlp, Combine }, then Head.
// The residual stream x [T, H] f32 stays inside the implementation, on its device. runtime/decode_step.cc is
// the caller.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "runtime/core/experts.h"
#include "runtime/core/ids.h"
#include "runtime/core/kv_format.h"
#include "runtime/core/result.h"
#include "runtime/core/ticket.h"

namespace moraine {

/// Both modes compute the same attention from the same cache; policies/attention_mode.h says which costs
/// less.
enum class AttentionMode : uint8_t {
  kAbsorbed,  // queries are taken into the latent space (decode): S (2R + P) per row and head
  kExpanded,  // K and V are expanded tile by tile (prefill): S (nope + P + v_head) per row and head, S R
              // (nope+v_head) once
};

/// The new rows of one sequence. Rows of a sequence are contiguous in the step and their positions too.
struct SequenceRows {
  int32_t first_row = 0;          // within the step
  int32_t rows = 0;               // >= 1
  int64_t first_position = 0;     // tokens of this sequence already in the cache
  std::span<const PageId> pages;  // cover positions [0, first_position + rows)
  AttentionMode mode = AttentionMode::kAbsorbed;
};

/// True where every sequence has one new row, as when several decode together. Every product is then made as
/// in a step of that row alone, so that what a sequence says does not depend on who else speaks.
inline bool AreSingleRows(std::span<const SequenceRows> sequences) {
  return std::all_of(sequences.begin(), sequences.end(),
                     [](const SequenceRows& sequence) { return sequence.rows == 1; });
}

/// Router output of the step's rows. Host memory, valid until the layer's Combine.
struct Routing {
  int32_t rows = 0;                  // T
  int32_t top_k = 0;                 // K
  const int32_t* experts = nullptr;  // [T, K], best score first
  const float* weights = nullptr;    // [T, K], normalised and scaled: what multiplies each expert's output
  const float* inputs = nullptr;     // [T, H] f32, x after the post-attention norm: the experts' input
};

/// Rows of a step that GuessExperts takes at most: a longer one wants most experts of a layer anyway.
inline constexpr int32_t kMostGuessRows = 4;

struct DenseOptions {
  int32_t max_rows = 512;       // T of the largest step
  int32_t max_logit_rows = 16;  // rows of the largest Head
  int32_t page_tokens = 64;     // positions per KV page
  int32_t pages = 0;            // KV pages to hold
  KvType kv_type = KvType::kBf16;
};

/// All calls come from one thread, in the order above; a call may return before its work is done, and
/// whatever is read back (Routing, Head) waits for what it needs. Wrong layer numbers or row counts are bugs
/// (CHECK). Errors: kInternal for NaN or infinity met in the router or the logits (layer and row named),
/// kDeviceLost.
class Dense {
 public:
  virtual ~Dense() = default;

  /// Starts a step. `embedded` [T, H] f32 is the residual stream's first value; `sequences` (their rows make
  /// up 0..T-1 in order) and the pages they name stay valid until the step's Head.
  virtual Status Begin(std::span<const SequenceRows> sequences, std::span<const float> embedded) = 0;

  /// x += attention(norm(x)); writes the new positions into the KV pages.
  virtual Status Attend(LayerId layer) = 0;

  /// Chooses the experts of every row of a MoE layer.
  virtual Result<Routing> Route(LayerId layer) = 0;

  /// x += mlp(norm(x)) of a dense layer.
  virtual Status DenseMlp(LayerId layer) = 0;

  /// Starts the shared experts on the rows of the last Route; Combine adds them. Nothing to do in a model
  /// without.
  virtual Status SharedMlp(LayerId layer) = 0;

  /// A guess at the experts MoE layer `next` will choose, [T, K], best first: its router sees x with the
  /// shared experts of the last SharedMlp, not yet the routed ones. Between SharedMlp and Combine, in steps
  /// of at most kMostGuessRows rows. Valid until the next call; no other result depends on it.
  virtual Result<std::span<const int32_t>> GuessExperts(LayerId next) = 0;

  /// x += shared + sums[0] + sums[1] + ..., always in that order, after waiting for each.
  virtual Status Combine(LayerId layer, std::span<const ExpertSum> sums) = 0;

  /// Logits of the given rows of the step, [rows.size(), V] f32 in host memory, valid until the next call.
  virtual Result<std::span<const float>> Head(std::span<const int32_t> rows) = 0;

  /// The step's rows after the final norm, [T, H] f32 in host memory, valid until the next call: what an MTP
  /// layer takes.
  virtual Result<std::span<const float>> Hidden() = 0;

  /// MTP draft: x = projection [norm(embedded), norm(hidden)] of MTP layer `layer`; both [T, H] f32. Takes
  /// Begin's place, and MtpHead takes Head's. The layer itself runs like any other.
  virtual Status BeginMtp(LayerId layer, std::span<const SequenceRows> sequences,
                          std::span<const float> embedded, std::span<const float> hidden) = 0;
  virtual Result<std::span<const float>> MtpHead(LayerId layer, std::span<const int32_t> rows) = 0;

  /// Copies all layers of one KV page onto another (copy-on-write of shared prefixes).
  virtual Status CopyPage(PageId from, PageId to) = 0;
  /// All layers of one KV page as bytes, page_bytes() of them; the same type and page size read them back.
  virtual int64_t page_bytes() const = 0;
  virtual Status SavePage(PageId page, std::span<std::byte> out) = 0;
  virtual Status LoadPage(PageId page, std::span<const std::byte> in) = 0;
};

}  // namespace moraine
