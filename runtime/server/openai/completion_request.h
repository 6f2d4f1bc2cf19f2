// The body of POST /v1/completions, read and checked.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "runtime/server/openai/generation_fields.h"

namespace moraine {

/// Text, which the tokenizer reads, or ids as they are.
using CompletionPrompt = std::variant<std::string, std::vector<int32_t>>;

struct CompletionRequest {
  GenerationFields generation;
  std::vector<CompletionPrompt> prompts;  // at least one
  bool echo = false;                      // the prompt comes before the text
  bool only_echo = false;                 // max_tokens 0: nothing but the prompt is wanted
};

/// As ParseChatRequest. Whether ids are of the vocabulary is not known here.
ApiResult<CompletionRequest> ParseCompletionRequest(std::string_view body);

}  // namespace moraine
