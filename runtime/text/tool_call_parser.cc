#include "runtime/text/tool_call_parser.h"

#include <algorithm>
#include <utility>

namespace moraine {
namespace {

constexpr std::string_view kSpace = " \t\r\n";
constexpr std::string_view kFence = "```";
constexpr size_t kMostNameBytes = 64;
// A head or a name that goes on longer is none; bounds what is held back.
constexpr size_t kMostHeadBytes = 256;

constexpr std::pair<ToolTag, std::string_view> kSpellings[] = {
    {ToolTag::kCallsBegin, "<｜tool▁calls▁begin｜>"},
    {ToolTag::kCallBegin, "<｜tool▁call▁begin｜>"},
    {ToolTag::kSep, "<｜tool▁sep｜>"},
    {ToolTag::kCallEnd, "<｜tool▁call▁end｜>"},
    {ToolTag::kCallsEnd, "<｜tool▁calls▁end｜>"},
};

std::string_view TrimmedFront(std::string_view text) {
  const size_t at = text.find_first_not_of(kSpace);
  return at == text.npos ? std::string_view() : text.substr(at);
}

std::string_view TrimmedBack(std::string_view text) {
  return text.substr(0, text.find_last_not_of(kSpace) + 1);
}

std::string_view Trimmed(std::string_view text) { return TrimmedFront(TrimmedBack(text)); }

}  // namespace

std::string_view Spelling(ToolTag tag) { return kSpellings[static_cast<size_t>(tag)].second; }

ToolTags::ToolTags(const Tokenizer& tokenizer) {
  for (const auto& [tag, spelling] : kSpellings) {
    if (const auto id = tokenizer.TokenId(spelling)) ids_.emplace_back(*id, tag);
  }
}

std::optional<ToolTag> ToolTags::Find(int32_t id) const {
  for (const auto& [known, tag] : ids_) {
    if (known == id) return tag;
  }
  return std::nullopt;
}

bool IsToolName(std::string_view name) {
  return !name.empty() && name.size() <= kMostNameBytes &&
         name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.") ==
             name.npos;
}

ToolChunk ToolCallParser::Begin(const std::string& name) {
  ToolChunk chunk;
  BeginCall();
  if (!name.empty()) {
    NameCall(name, &chunk);
    state_ = State::kArguments;
  } else if (form_ == ToolCallForm::kFenced) {
    state_ = State::kNameLine;
  }
  return chunk;
}

ToolChunk ToolCallParser::Text(std::string_view text) {
  ToolChunk chunk;
  Add(text, &chunk);
  return chunk;
}

// One state after the other takes what is its own of `text`.
void ToolCallParser::Add(std::string_view text, ToolChunk* chunk) {
  switch (state_) {
    case State::kText:
      chunk->text += text;
      return;
    case State::kBetween:
      held_ += text;
      if (Trimmed(held_).empty()) return;
      state_ = State::kText;
      chunk->text += std::exchange(held_, {});
      return;
    case State::kHead:
      raw_ += text;
      held_ += text;
      if (held_.size() > kMostHeadBytes) GiveUp(chunk);
      return;
    case State::kNameLine: {
      // White space before the name may itself be a line.
      held_ += text;
      raw_ += text;
      const size_t start = held_.find_first_not_of(kSpace);
      const size_t end = start == held_.npos ? held_.npos : held_.find('\n', start);
      if (end == held_.npos && held_.size() <= kMostHeadBytes) return;
      if (end == held_.npos || end > kMostHeadBytes) return GiveUp(chunk);
      const std::string name(Trimmed(std::string_view(held_).substr(0, end)));
      const std::string rest = held_.substr(end + 1);
      if (!IsToolName(name)) return GiveUp(chunk);
      NameCall(name, chunk);
      state_ = State::kFence;
      return Add(rest, chunk);
    }
    case State::kFence: {
      held_ += text;
      const std::string_view start = TrimmedFront(held_);
      if (start.size() < kFence.size() && kFence.starts_with(start)) return;
      std::string rest(start);
      if (start.starts_with(kFence)) {
        const size_t end = held_.find('\n', held_.size() - start.size());
        if (end == held_.npos && held_.size() <= kMostHeadBytes) return;
        if (end != held_.npos && end <= kMostHeadBytes) rest = held_.substr(end + 1);
      }
      held_.clear();
      state_ = State::kArguments;
      return AddArguments(rest, chunk);
    }
    case State::kArguments:
      return AddArguments(text, chunk);
  }
}

void ToolCallParser::BeginCall() {
  state_ = State::kHead;
  raw_ = Spelling(ToolTag::kCallBegin);
  held_.clear();
  has_arguments_ = false;
}

void ToolCallParser::NameCall(const std::string& name, ToolChunk* chunk) {
  ToolCallPiece piece;
  piece.index = calls_++;
  piece.name = name;
  chunk->calls.push_back(std::move(piece));
  raw_.clear();
  held_.clear();
}

void ToolCallParser::AddArguments(std::string_view text, ToolChunk* chunk) {
  held_ += text;
  if (!has_arguments_) held_.erase(0, std::min(held_.find_first_not_of(kSpace), held_.size()));
  // A fence and white space are the arguments' own only if something follows them.
  const std::string_view tail = form_ == ToolCallForm::kFenced ? " \t\r\n`" : kSpace;
  const size_t certain = held_.find_last_not_of(tail) + 1;
  GiveArguments(held_.substr(0, certain), chunk);
  held_.erase(0, certain);
}

void ToolCallParser::GiveArguments(const std::string& text, ToolChunk* chunk) {
  if (text.empty()) return;
  has_arguments_ = true;
  if (chunk->calls.empty() || chunk->calls.back().index != calls_ - 1) {
    ToolCallPiece piece;
    piece.index = calls_ - 1;
    chunk->calls.push_back(std::move(piece));
  }
  chunk->calls.back().arguments += text;
}

void ToolCallParser::EndCall(ToolChunk* chunk) {
  std::string_view rest = Trimmed(held_);
  if (state_ == State::kFence && rest.starts_with(kFence)) rest = {};  // a fence line that never ended
  if (form_ == ToolCallForm::kFenced) {
    // An answer may have been cut within the fence.
    for (size_t i = 0; i < kFence.size() && rest.ends_with('`'); ++i) rest.remove_suffix(1);
    rest = TrimmedBack(rest);
  }
  GiveArguments(std::string(rest), chunk);
  held_.clear();
  state_ = State::kBetween;
}

void ToolCallParser::GiveUp(ToolChunk* chunk) {
  chunk->text += std::exchange(raw_, {});
  held_.clear();
  state_ = State::kText;
}

ToolChunk ToolCallParser::Tag(ToolTag tag) {
  ToolChunk chunk;
  if (tag == ToolTag::kSep && state_ == State::kHead) {
    const std::string head(Trimmed(held_));
    if (form_ == ToolCallForm::kFenced) {
      raw_ += Spelling(tag);
      held_.clear();
      state_ = State::kNameLine;
      return chunk;
    }
    if (IsToolName(head)) {
      NameCall(head, &chunk);
      state_ = State::kArguments;
      return chunk;
    }
  }
  // A name may be all that a call has.
  if (state_ == State::kNameLine && tag != ToolTag::kSep && IsToolName(Trimmed(held_))) {
    const std::string name(Trimmed(held_));
    NameCall(name, &chunk);
    state_ = State::kArguments;
  }
  const bool in_arguments = state_ == State::kArguments || state_ == State::kFence;
  if (in_arguments && tag != ToolTag::kSep && tag != ToolTag::kCallsBegin) {
    EndCall(&chunk);
    if (!has_arguments_) GiveArguments("{}", &chunk);
    ++ended_;
  } else if (in_arguments) {
    Add(Spelling(tag), &chunk);
    return chunk;
  } else if (state_ == State::kHead || state_ == State::kNameLine) {
    raw_ += tag == ToolTag::kCallBegin ? std::string_view() : Spelling(tag);
    GiveUp(&chunk);
    if (tag != ToolTag::kCallBegin) return chunk;
  }
  switch (tag) {
    case ToolTag::kCallsBegin:
      state_ = State::kBetween;
      held_.clear();
      return chunk;
    case ToolTag::kCallBegin:
      BeginCall();
      return chunk;
    case ToolTag::kCallsEnd:
      state_ = State::kText;
      held_.clear();
      return chunk;
    case ToolTag::kSep:
    case ToolTag::kCallEnd:
      // The end of a call is said above; elsewhere the two frame nothing.
      if (!in_arguments) Add(Spelling(tag), &chunk);
      return chunk;
  }
  return chunk;
}

ToolChunk ToolCallParser::Finish() {
  ToolChunk chunk;
  if (state_ == State::kNameLine && IsToolName(Trimmed(held_))) {
    const std::string name(Trimmed(held_));
    NameCall(name, &chunk);
    state_ = State::kArguments;
  }
  if (state_ == State::kHead || state_ == State::kNameLine) {
    GiveUp(&chunk);
  } else if (state_ == State::kArguments || state_ == State::kFence) {
    EndCall(&chunk);
  }
  return chunk;
}

}  // namespace moraine
