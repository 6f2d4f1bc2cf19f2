#include "runtime/server/openai/choice_text.h"

#include <utility>

#include "runtime/server/openai/random_id.h"

namespace moraine {

ChoiceText ChoiceText::Chat(const Tokenizer& tokenizer, bool thinking, std::vector<std::string> stops,
                            const std::optional<ToolReading>& tools) {
  ChoiceText text(std::move(stops));
  text.splitter_.emplace(tokenizer, thinking);
  if (!tools) return text;
  text.tags_.emplace(tokenizer);
  text.calls_.emplace(tools->form);
  text.one_call_ = tools->one_call;
  if (!tools->begun_call) return text;
  text.splitter_->OpenNoMore();
  text.Add(text.calls_->Begin(*tools->begun_call), &text.begun_);
  return text;
}

ChoiceText ChoiceText::Plain(const Tokenizer& tokenizer, std::vector<std::string> stops) {
  ChoiceText text(std::move(stops));
  text.plain_.emplace(tokenizer, DecodeOptions{.skip_special = true});
  return text;
}

bool ChoiceText::stopped() const { return stops_.met() || (one_call_ && calls_ && calls_->ended() > 0); }

void ChoiceText::Add(ToolChunk chunk, TextPiece* piece) {
  piece->content += stops_.Push(chunk.text);
  if (chunk.text.find_first_not_of(" \t\r\n") != chunk.text.npos) spoke_ = true;
  for (ToolCallPiece& call : chunk.calls) {
    if (call.name.empty() && !piece->calls.empty() && piece->calls.back().index == call.index) {
      piece->calls.back().arguments += call.arguments;
      continue;
    }
    ToolCallDelta delta;
    delta.index = call.index;
    if (!call.name.empty()) delta.id = RandomId("call_");
    delta.name = std::move(call.name);
    delta.arguments = std::move(call.arguments);
    piece->calls.push_back(std::move(delta));
  }
}

void ChoiceText::AddAnswer(const std::string& text, TextPiece* piece) {
  if (calls_) {
    Add(calls_->Text(text), piece);
  } else {
    piece->content += stops_.Push(text);
  }
}

void ChoiceText::AddTag(ToolTag tag, TextPiece* piece) {
  // A code point cannot go on behind a tag, nor can a stop string.
  const std::string before = splitter_->Finish().answer;
  splitter_->OpenNoMore();  // reasoning within a call would take it apart
  const bool only_space = !spoke_ && before.find_first_not_of(" \t\r\n") == before.npos;
  if (!only_space) AddAnswer(before, piece);
  if (!stops_.met()) piece->content += stops_.Finish();
  Add(calls_->Tag(tag), piece);
}

TextPiece ChoiceText::Push(int32_t id) {
  TextPiece piece = std::exchange(begun_, {});
  if (plain_) {
    piece.content = stops_.Push(plain_->Push(id));
    return piece;
  }
  if (splitter_->in_reasoning()) {
    ++reasoning_tokens_;
  } else if (const auto tag = tags_ ? tags_->Find(id) : std::nullopt) {
    AddTag(*tag, &piece);
    return piece;
  }
  ThinkChunk chunk = splitter_->Push(id);
  piece.reasoning = std::move(chunk.reasoning);
  AddAnswer(chunk.answer, &piece);
  return piece;
}

TextPiece ChoiceText::Finish() {
  TextPiece piece = std::exchange(begun_, {});
  if (plain_) {
    piece.content = stops_.Push(plain_->Finish());
  } else {
    ThinkChunk chunk = splitter_->Finish();
    piece.reasoning = std::move(chunk.reasoning);
    AddAnswer(chunk.answer, &piece);
    if (calls_) Add(calls_->Finish(), &piece);
  }
  piece.content += stops_.Finish();
  return piece;
}

}  // namespace moraine
