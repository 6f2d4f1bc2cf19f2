// Messages as the endpoints share them: their content, and the order of tools' results.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "runtime/server/openai/fields.h"
#include "runtime/text/chat_template.h"

namespace moraine {

/// A message, and of the role tool the id of the call whose result it is.
struct ConversationMessage {
  Message message;
  std::string call_id;
};

/// Member `name`: a string, or the text parts of a list joined (types text, input_text, output_text). Other
/// parts are refused in `fields`; absent or null leaves `content` as it is.
void ReadContent(Fields* fields, const char* name, std::optional<std::string>* content);

/// Templates tell results apart by their place alone: those of one turn are put in the order of its calls, if
/// every one names a call.
void OrderResults(std::span<ConversationMessage> messages);

}  // namespace moraine
