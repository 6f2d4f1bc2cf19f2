// The body of POST /v1/chat/completions, read and checked.
#pragma once

#include <string_view>
#include <vector>

#include "runtime/server/openai/generation_fields.h"
#include "runtime/server/openai/tool_fields.h"
#include "runtime/text/chat_template.h"

namespace moraine {

struct ChatRequest {
  GenerationFields generation;
  std::vector<Message> messages;
  ToolFields tools;
  bool thinking = false;  // of templates that can do both
};

/// Members with the meaning OpenAI, DeepSeek, vLLM and llama.cpp give them; unknown ones are counted, null
/// counts as absent. 400 names the field.
ApiResult<ChatRequest> ParseChatRequest(std::string_view body);

}  // namespace moraine
