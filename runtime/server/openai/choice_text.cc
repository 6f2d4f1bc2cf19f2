#include "runtime/server/openai/choice_text.h"

#include <utility>

namespace moraine {

ChoiceText ChoiceText::Chat(const Tokenizer& tokenizer, bool thinking, std::vector<std::string> stops) {
  ChoiceText text(std::move(stops));
  text.splitter_.emplace(tokenizer, thinking);
  return text;
}

ChoiceText ChoiceText::Plain(const Tokenizer& tokenizer, std::vector<std::string> stops) {
  ChoiceText text(std::move(stops));
  text.plain_.emplace(tokenizer, DecodeOptions{.skip_special = true});
  return text;
}

TextPiece ChoiceText::Push(int32_t id) {
  if (plain_) return {.reasoning = "", .content = stops_.Push(plain_->Push(id))};
  if (splitter_->in_reasoning()) ++reasoning_tokens_;
  ThinkChunk chunk = splitter_->Push(id);
  return {.reasoning = std::move(chunk.reasoning), .content = stops_.Push(chunk.answer)};
}

TextPiece ChoiceText::Finish() {
  TextPiece piece;
  std::string tail;
  if (plain_) {
    tail = plain_->Finish();
  } else {
    ThinkChunk chunk = splitter_->Finish();
    piece.reasoning = std::move(chunk.reasoning);
    tail = std::move(chunk.answer);
  }
  piece.content = stops_.Push(tail);
  piece.content += stops_.Finish();
  return piece;
}

}  // namespace moraine
