// Shows a reply: streamed for people, one object for programs, and the line of figures.
#pragma once

#include <optional>
#include <string>

#include "cpu/gemm/gemm_report.h"
#include "runtime/text/think_splitter.h"
#include "tools/chat_session.h"
#include "tools/prediction.h"

namespace moraine::tools {

/// Streams to stdout. Thinking stands apart: under its own heading and, on a terminal without NO_COLOR,
/// dimmed.
class ReplyPrinter {
 public:
  ReplyPrinter();
  void Show(const ThinkChunk& chunk);
  /// Ends the last line.
  void Finish();

 private:
  enum class Part { kNone, kThinking, kAnswer };
  void Enter(Part part);

  bool colour_;
  Part part_ = Part::kNone;
  bool line_open_ = false;
};

/// "14 prompt tokens at 210 tok/s, ...": one line, without its newline.
std::string Figures(const Reply& reply, uint64_t seed);

/// The object of `run --json`, one line: schema, text, reasoning, ids, finish_reason, prompt_tokens,
/// completion_tokens, prefill_tok_s, decode_tok_s, bytes_per_token {vram, ram, nvme}, hit_rate, seed,
/// predicted {}, measured {}, gemm (kernel_report.h).
std::string ReplyJson(const Reply& reply, uint64_t seed, const GemmReport& gemm,
                      const std::optional<Prediction>& prediction);

/// What it came to, to be held against a prediction.
RunFigures MeasuredFigures(const Reply& reply);

}  // namespace moraine::tools
