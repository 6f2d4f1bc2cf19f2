// The body of POST /v1/responses, read and checked.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "runtime/server/openai/chat_request.h"

namespace moraine {

struct ResponsesRequest {
  ChatRequest chat;
  /// The request's own instructions, metadata, tool_choice, tools and text, as the answer repeats them.
  nlohmann::json repeated;
};

/// The conversation is `instructions`, then `input`: a string, or items of the types message, function_call,
/// function_call_output and reasoning (which no template prints). Nothing is kept between requests: what
/// would need that (previous_response_id, conversation, prompt, background, item_reference) is refused,
/// `store` is ignored. Unknown fields are counted, null counts as absent. 400 names the field.
ApiResult<ResponsesRequest> ParseResponsesRequest(std::string_view body);

}  // namespace moraine
