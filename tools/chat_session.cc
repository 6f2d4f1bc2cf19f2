#include "tools/chat_session.h"

#include <algorithm>

#include "runtime/core/check.h"
#include "tools/interrupt.h"

namespace moraine::tools {

Result<Reply> ChatSession::Continue(std::vector<int32_t> ids, const GenerateOptions& options,
                                    const ReplySink& sink) {
  return Run(std::move(ids), false, options, sink);
}

Result<Reply> ChatSession::Continue(const std::string& text, std::optional<int32_t> bos,
                                    const GenerateOptions& options, const ReplySink& sink) {
  std::vector<int32_t> ids = tokenizer_->Encode(text);
  if (bos) ids.insert(ids.begin(), *bos);
  return Run(std::move(ids), false, options, sink);
}

Result<Reply> ChatSession::Ask(const ChatTemplate& chat_template, const std::string& question,
                               const GenerateOptions& options, const ReplySink& sink) {
  messages_.push_back({.role = "user", .content = question});
  auto reply = [&]() -> Result<Reply> {
    MORAINE_ASSIGN_OR_RETURN(const std::vector<TextPart> parts, chat_template.Render(messages_, {}));
    return Run(EncodeChat(*tokenizer_, parts), OpensThinking(parts), options, sink);
  }();
  if (reply.has_value()) {
    messages_.push_back({.role = "assistant", .content = reply->text});
  } else {
    messages_.pop_back();
  }
  return reply;
}

Result<Reply> ChatSession::Run(std::vector<int32_t> ids, bool thinking, const GenerateOptions& options,
                               const ReplySink& sink) {
  // What the cache already holds of this prompt stays; at least one token must run to give logits.
  const auto differs = std::ranges::mismatch(ids, cached_).in1;
  auto reused = static_cast<int64_t>(differs - ids.begin());
  reused = std::min(reused, static_cast<int64_t>(ids.size()) - 1);
  reused = std::max<int64_t>(reused, 0);
  sequence_.Truncate(std::min(reused, sequence_.length()));
  reused = sequence_.length();

  Reply reply;
  reply.reused_tokens = reused;
  std::optional<ThinkSplitter> splitter;
  if (tokenizer_ != nullptr) splitter.emplace(*tokenizer_, thinking);
  const auto take = [&](const ThinkChunk& chunk) {
    reply.reasoning += chunk.reasoning;
    reply.text += chunk.answer;
    if (sink) sink(chunk);
  };
  auto generated = Generate(
      *engine_, &sequence_, std::span(ids).subspan(static_cast<size_t>(reused)), options,
      [&](int32_t token) {
        if (splitter) take(splitter->Push(token));
        return true;
      },
      Interrupted);
  // Only what ran through the layers is in the cache: the last token generated never is.
  if (generated.has_value()) ids.insert(ids.end(), generated->tokens.begin(), generated->tokens.end());
  MORAINE_CHECK(sequence_.length() <= static_cast<int64_t>(ids.size()));
  ids.resize(static_cast<size_t>(sequence_.length()));
  cached_ = std::move(ids);
  if (!generated.has_value()) return tl::unexpected(generated.error());
  if (splitter) take(splitter->Finish());
  reply.generated = std::move(*generated);
  reply.generated.prompt_tokens += reused;
  return reply;
}

}  // namespace moraine::tools
