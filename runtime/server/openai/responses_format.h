// ResponsesFormat: the form of /v1/responses, an object of output items or typed events.
#pragma once

#include <optional>
#include <vector>

#include "runtime/server/openai/answer_format.h"

namespace moraine {

struct ResponsesFormatOptions {
  std::string id;  // "resp_..."
  int64_t created = 0;
  std::string model;
  float temperature = 0;
  float top_p = 1;
  nlohmann::json repeated;  // of the request (responses_request.h)
  bool stream = false;
};

/// Of one choice. Items come as the model writes: reasoning, a message, calls; what was begun when the answer
/// was cut off says "incomplete".
class ResponsesFormat : public AnswerFormat {
 public:
  explicit ResponsesFormat(ResponsesFormatOptions options);
  std::string Begin() override;
  std::string Add(size_t choice, ChoicePart part) override;
  std::string Finish(const AnswerUsage& usage) override;
  std::string Fail(const ApiError& error) override;

 private:
  enum class Kind { kReasoning, kMessage, kCall };
  struct Item {
    Kind kind;
    std::string id;
    std::string text;  // or arguments
    std::string call_id, name;
  };

  nlohmann::json Object(const char* status) const;
  nlohmann::json ItemJson(const Item& item, const char* status) const;
  static nlohmann::json PartJson(const Item& item);
  /// The open item's place and name, as its events have them.
  nlohmann::json Place() const;
  void Send(const char* type, nlohmann::json event);
  void Open(Item item);
  void Write(Kind kind, const std::string& text);
  void Close(const char* status);

  const ResponsesFormatOptions options_;
  nlohmann::json output_ = nlohmann::json::array();  // items that are done
  std::optional<Item> open_;
  std::string reason_;
  int64_t sequence_ = 0;
  std::string events_;  // of this call
};

}  // namespace moraine
