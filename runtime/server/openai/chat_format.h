// ChatFormat: the form of /v1/chat/completions and of /v1/completions.
#pragma once

#include <vector>

#include "runtime/server/openai/answer_format.h"
#include "runtime/server/openai/response.h"

namespace moraine {

struct ChatFormatOptions {
  AnswerHead head;
  bool stream = false;
  bool include_usage = false;  // of a stream: one chunk more, with usage
  size_t choices = 1;
  /// With return_token_ids, which then also are in the answer: of each choice.
  std::vector<std::vector<int32_t>> prompt_ids;
};

class ChatFormat : public AnswerFormat {
 public:
  explicit ChatFormat(ChatFormatOptions options);
  std::string Begin() override { return ""; }
  std::string Add(size_t choice, ChoicePart part) override;
  std::string Finish(const AnswerUsage& usage) override;
  std::string Fail(const ApiError& error) override;

 private:
  void Keep(WholeChoice* whole, ChoicePart part);

  const ChatFormatOptions options_;
  std::vector<WholeChoice> whole_;
  std::vector<bool> said_role_;
};

}  // namespace moraine
