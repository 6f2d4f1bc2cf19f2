// AnswerFormat: what becomes certain of an answer, as the body or the events that a client reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "runtime/server/openai/api_error.h"
#include "runtime/server/openai/choice_text.h"

namespace moraine {

/// Sums over the choices of an answer.
struct AnswerUsage {
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t reasoning_tokens = 0;
  double queue_seconds = 0;
  double prefill_seconds = 0;
  double decode_seconds = 0;
};

/// What is new of one choice; all of it may be empty.
struct ChoicePart {
  TextPiece piece;
  nlohmann::json logprobs;         // null: none; as LogprobWriter makes them
  std::vector<int32_t> token_ids;  // return_token_ids
  std::string finish_reason;       // "stop", "length" or "tool_calls"; empty: more comes
};

/// One endpoint's form of one answer, whole or streamed. Whole: Add gives nothing and Finish the body.
/// Streamed: what each call gives is sent at once. One thread at a time.
class AnswerFormat {
 public:
  virtual ~AnswerFormat() = default;
  /// The first events of a stream.
  virtual std::string Begin() = 0;
  virtual std::string Add(size_t choice, ChoicePart part) = 0;
  /// Every choice has said its reason.
  virtual std::string Finish(const AnswerUsage& usage) = 0;
  /// The last events of a stream that broke off.
  virtual std::string Fail(const ApiError& error) = 0;
};

}  // namespace moraine
