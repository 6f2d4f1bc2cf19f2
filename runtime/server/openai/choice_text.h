// ChoiceText: the tokens of one choice as the pieces of text a client gets.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/server/openai/stop_strings.h"
#include "runtime/text/detokenizer.h"
#include "runtime/text/think_splitter.h"
#include "runtime/text/tool_call_parser.h"

namespace moraine {

/// A stretch of a call; the first of each has its id and name.
struct ToolCallDelta {
  int32_t index = 0;
  std::string id;
  std::string name;
  std::string arguments;
};

/// What became certain, in this order; any may be empty.
struct TextPiece {
  std::string reasoning;
  std::string content;
  std::vector<ToolCallDelta> calls = {};
};

/// How an answer calls tools.
struct ToolReading {
  ToolCallForm form = ToolCallForm::kFenced;
  std::optional<std::string> begun_call;  // as RenderOptions::begun_call; then the prompt ends in no block
  bool one_call = false;                  // the first call ends the answer
};

/// Whole code points, tags apart, nothing behind a stop string (which count in the answer, not in reasoning).
/// One thread.
class ChoiceText {
 public:
  /// Chat: `thinking` says whether the prompt ends inside a think block. Plain text has no such blocks.
  /// Without `tools` what frames a call stays content, as do calls within reasoning. `tokenizer` is borrowed.
  static ChoiceText Chat(const Tokenizer& tokenizer, bool thinking, std::vector<std::string> stops,
                         const std::optional<ToolReading>& tools = {});
  static ChoiceText Plain(const Tokenizer& tokenizer, std::vector<std::string> stops);

  TextPiece Push(int32_t id);
  TextPiece Finish();

  /// A stop string was met, or the one call that is wanted has ended.
  bool stopped() const;
  bool has_calls() const { return calls_ && calls_->calls() > 0; }
  /// Tokens so far that were reasoning.
  int64_t reasoning_tokens() const { return reasoning_tokens_; }

 private:
  explicit ChoiceText(std::vector<std::string> stops) : stops_(std::move(stops)) {}
  void AddAnswer(const std::string& text, TextPiece* piece);
  void AddTag(ToolTag tag, TextPiece* piece);
  void Add(ToolChunk chunk, TextPiece* piece);

  std::optional<ThinkSplitter> splitter_;
  std::optional<Detokenizer> plain_;
  StopStrings stops_;
  std::optional<ToolTags> tags_;
  std::optional<ToolCallParser> calls_;
  bool one_call_ = false;
  TextPiece begun_;     // of the call that the prompt began, until the first piece
  bool spoke_ = false;  // content that is not white space
  int64_t reasoning_tokens_ = 0;
};

}  // namespace moraine
