// Divides an answer into text and calls of tools, as it streams.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/chat_template.h"

namespace moraine {

/// The tokens that frame calls in DeepSeek's answers. As with <think>, the token counts, not its spelling.
enum class ToolTag { kCallsBegin, kCallBegin, kSep, kCallEnd, kCallsEnd };

/// "<｜tool▁calls▁begin｜>" and so on.
std::string_view Spelling(ToolTag tag);

/// The tag that `id` is.
class ToolTags {
 public:
  /// Tags that the vocabulary lacks are never found.
  explicit ToolTags(const Tokenizer& tokenizer);
  std::optional<ToolTag> Find(int32_t id) const;

 private:
  std::vector<std::pair<int32_t, ToolTag>> ids_;
};

/// A stretch of one call. The first of a call has the name, whole; the arguments of all, joined, are the
/// call's.
struct ToolCallPiece {
  int32_t index = 0;  // of the call in the answer
  std::string name;   // empty: more of a call that was named before
  std::string arguments;
};

/// What became certain; text stands before calls.
struct ToolChunk {
  std::string text;
  std::vector<ToolCallPiece> calls;
};

/// What a function's name looks like: 1 to 64 of A-Z a-z 0-9 _ - and the dot, as OpenAI allows them.
bool IsToolName(std::string_view name);

/// Reads, for kFenced and kPlain in turn (CallBegin may come without CallsBegin, as V3's template writes it)
///
///   CallsBegin ( CallBegin TYPE Sep NAME "\n```json\n" ARGUMENTS "\n```" CallEnd )+ CallsEnd
///   CallsBegin ( CallBegin NAME Sep ARGUMENTS CallEnd )+ CallsEnd
///
/// Arguments are given on as they are, without the fence and the white space around them, whether they are
/// JSON or not; none at all, where a tag ends the call, are "{}". CallsEnd, CallBegin and the end of the
/// answer also end a call. What has no name that IsToolName accepts is no call: its text, tags spelled out,
/// is text; of the frame around the calls nothing is. The same answer gives the same text and calls however
/// it is cut. One thread.
class ToolCallParser {
 public:
  explicit ToolCallParser(ToolCallForm form) : form_(form) {}

  /// The prompt has begun a call: of `name`, or, if that is empty, of one that the answer names. Before all
  /// else.
  ToolChunk Begin(const std::string& name);
  ToolChunk Text(std::string_view text);
  ToolChunk Tag(ToolTag tag);
  ToolChunk Finish();

  /// Calls that were named.
  int32_t calls() const { return calls_; }
  /// Of them, those that were ended by a tag.
  int32_t ended() const { return ended_; }

 private:
  enum class State { kText, kBetween, kHead, kNameLine, kFence, kArguments };

  void Add(std::string_view text, ToolChunk* chunk);
  void BeginCall();
  void NameCall(const std::string& name, ToolChunk* chunk);
  void AddArguments(std::string_view text, ToolChunk* chunk);
  void GiveArguments(const std::string& text, ToolChunk* chunk);
  void EndCall(ToolChunk* chunk);
  /// What was read of a call without a name becomes text.
  void GiveUp(ToolChunk* chunk);

  const ToolCallForm form_;
  State state_ = State::kText;
  std::string raw_;   // since CallBegin, as long as the call has no name
  std::string held_;  // of what is being read: head, name, fence, or the arguments' possible end
  bool has_arguments_ = false;
  int32_t calls_ = 0;
  int32_t ended_ = 0;
};

}  // namespace moraine
