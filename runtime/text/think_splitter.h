// Divides what a model generates into reasoning and answer, as it streams.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "runtime/text/detokenizer.h"

namespace moraine {

/// Text that became complete with one id; usually one of the two is empty.
struct ThinkChunk {
  std::string reasoning;
  std::string answer;
};

/// The tags are the tokens <think> and </think>, not their spelling, and are never part of either text,
/// however often or oddly they come:
///   - <think> opens reasoning at the start and right after a closed block, white space aside; elsewhere in
///   an
///     answer, or within reasoning, it is dropped;
///   - </think> closes reasoning; in an answer it is dropped;
///   - reasoning that is never closed stays reasoning.
/// White space between two blocks is dropped with them. With a vocabulary that lacks the tags, all is answer.
/// What Push and Finish return holds whole code points. One thread a splitter.
class ThinkSplitter {
 public:
  /// `prompt_opened`: the prompt ends inside a block already (OpensThinking in chat_template.h). `tokenizer`
  /// is borrowed and must outlive the splitter.
  ThinkSplitter(const Tokenizer& tokenizer, bool prompt_opened,
                DecodeOptions options = {.skip_special = true});

  ThinkChunk Push(int32_t id);
  ThinkChunk Finish();
  /// Outside a block: none opens any more.
  void OpenNoMore() { may_open_ = false; }

  /// True while what comes next is reasoning.
  bool in_reasoning() const { return in_reasoning_; }

 private:
  void Add(const std::string& text, ThinkChunk* chunk);

  const std::optional<int32_t> open_;
  const std::optional<int32_t> close_;
  Detokenizer detokenizer_;
  bool in_reasoning_;
  bool may_open_ = true;  // no answer yet since the start or the last block but white space
  std::string held_;      // that white space
};

}  // namespace moraine
