// ChoiceText: the tokens of one choice as the pieces of text a client gets.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/server/openai/stop_strings.h"
#include "runtime/text/detokenizer.h"
#include "runtime/text/think_splitter.h"

namespace moraine {

/// Text that became certain; both may be empty.
struct TextPiece {
  std::string reasoning;
  std::string content;
};

/// Whole code points, tags apart, nothing behind a stop string (which count in the answer, not in reasoning).
/// One thread.
class ChoiceText {
 public:
  /// Chat: `thinking` says whether the prompt ends inside a think block. Plain text has no such blocks.
  /// `tokenizer` is borrowed.
  static ChoiceText Chat(const Tokenizer& tokenizer, bool thinking, std::vector<std::string> stops);
  static ChoiceText Plain(const Tokenizer& tokenizer, std::vector<std::string> stops);

  TextPiece Push(int32_t id);
  TextPiece Finish();

  /// A stop string was met.
  bool stopped() const { return stops_.met(); }
  /// Tokens so far that were reasoning.
  int64_t reasoning_tokens() const { return reasoning_tokens_; }

 private:
  explicit ChoiceText(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  std::optional<ThinkSplitter> splitter_;
  std::optional<Detokenizer> plain_;
  StopStrings stops_;
  int64_t reasoning_tokens_ = 0;
};

}  // namespace moraine
