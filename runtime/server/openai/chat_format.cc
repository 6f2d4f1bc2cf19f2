#include "runtime/server/openai/chat_format.h"

#include <utility>

namespace moraine {

ChatFormat::ChatFormat(ChatFormatOptions options)
    : options_(std::move(options)), whole_(options_.choices), said_role_(options_.choices, false) {
  for (size_t i = 0; i < options_.prompt_ids.size(); ++i) {
    whole_[i].token_ids.emplace();
    whole_[i].prompt_ids = options_.prompt_ids[i];
  }
}

void ChatFormat::Keep(WholeChoice* whole, ChoicePart part) {
  whole->reasoning += part.piece.reasoning;
  whole->content += part.piece.content;
  for (ToolCallDelta& call : part.piece.calls) {
    if (!call.name.empty()) {
      ToolCall made;
      made.id = std::move(call.id);
      made.name = std::move(call.name);
      whole->calls.push_back(std::move(made));
    }
    whole->calls.back().arguments += call.arguments;
  }
  if (whole->token_ids)
    whole->token_ids->insert(whole->token_ids->end(), part.token_ids.begin(), part.token_ids.end());
  if (!part.logprobs.is_null()) whole->logprobs = std::move(part.logprobs);
  whole->finish_reason = std::move(part.finish_reason);
}

std::string ChatFormat::Add(size_t choice, ChoicePart part) {
  if (!options_.stream) {
    Keep(&whole_[choice], std::move(part));
    return "";
  }
  const auto index = static_cast<int32_t>(choice);
  std::string events;
  if (options_.head.chat && !said_role_[choice])
    events += Event(Chunk(options_.head, {.index = index, .first = true}));
  said_role_[choice] = true;
  if (!part.piece.reasoning.empty() || !part.piece.content.empty() || !part.piece.calls.empty()) {
    ChunkParts parts{.index = index, .piece = std::move(part.piece)};
    parts.logprobs = std::exchange(part.logprobs, nullptr);
    parts.token_ids = std::exchange(part.token_ids, {});
    events += Event(Chunk(options_.head, parts));
  }
  if (part.finish_reason.empty()) return events;
  ChunkParts last{.index = index, .finish_reason = std::move(part.finish_reason)};
  last.logprobs = std::move(part.logprobs);
  last.token_ids = std::move(part.token_ids);
  return events + Event(Chunk(options_.head, last));
}

std::string ChatFormat::Finish(const AnswerUsage& usage) {
  if (!options_.stream) return WholeAnswer(options_.head, whole_, usage);
  return (options_.include_usage ? Event(UsageChunk(options_.head, usage)) : "") + Event("[DONE]");
}

std::string ChatFormat::Fail(const ApiError& error) { return Event(ErrorBody(error)) + Event("[DONE]"); }

}  // namespace moraine
