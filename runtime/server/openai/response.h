// The bodies of chat and plain completions, whole and in chunks, as OpenAI's clients read them.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/scheduler.h"
#include "runtime/server/openai/answer_format.h"
#include "runtime/text/tokenizer.h"

namespace moraine {

/// What every object of one answer repeats.
struct AnswerHead {
  bool chat = true;
  std::string id;  // "chatcmpl-..."
  int64_t created = 0;
  std::string model;
  bool usage_in_chunks = false;  // stream_options.include_usage: the others then say null
};

/// One token and its log-probabilities. A token that is not UTF-8 by itself is written "bytes:\xE4".
class LogprobWriter {
 public:
  explicit LogprobWriter(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  /// `logprobs` null: of the prompt's first token.
  void Add(int32_t id, const TokenLogprobs* logprobs);
  bool empty() const { return tokens_.empty(); }
  /// All since the last call. Chat: {"content": [...]}; plain: {"tokens", "token_logprobs", "top_logprobs",
  /// "text_offset"}, which goes on counting.
  nlohmann::json Take(bool chat);

 private:
  struct Token {
    int32_t id;
    std::optional<TokenLogprobs> logprobs;
  };
  nlohmann::json TakePlain();
  std::string Text(int32_t id) const;

  const Tokenizer& tokenizer_;
  std::vector<Token> tokens_;
  int64_t offset_ = 0;
};

/// A choice when it is whole.
struct WholeChoice {
  std::string reasoning;
  std::string content;
  std::vector<ToolCall> calls;
  std::string finish_reason;
  nlohmann::json logprobs;                        // null: none
  std::optional<std::vector<int32_t>> token_ids;  // return_token_ids
  std::optional<std::vector<int32_t>> prompt_ids;
};

nlohmann::json UsageJson(const AnswerUsage& usage);

std::string WholeAnswer(const AnswerHead& head, const std::vector<WholeChoice>& choices,
                        const AnswerUsage& usage);

/// A chunk of choice `index`; `finish_reason` empty: more comes. `first`: says the role (chat).
struct ChunkParts {
  int32_t index = 0;
  bool first = false;
  TextPiece piece;
  nlohmann::json logprobs;
  std::string finish_reason;
  std::vector<int32_t> token_ids;
};
std::string Chunk(const AnswerHead& head, const ChunkParts& parts);
/// The chunk with usage and no choices.
std::string UsageChunk(const AnswerHead& head, const AnswerUsage& usage);

/// "data: ...\n\n".
std::string Event(const std::string& data);

/// JSON on one line; what is not UTF-8 becomes U+FFFD.
std::string Dump(const nlohmann::json& value);

}  // namespace moraine
