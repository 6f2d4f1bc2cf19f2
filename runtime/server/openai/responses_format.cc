#include "runtime/server/openai/responses_format.h"

#include <utility>

#include "runtime/server/openai/random_id.h"
#include "runtime/server/openai/response.h"

namespace moraine {

using nlohmann::json;

ResponsesFormat::ResponsesFormat(ResponsesFormatOptions options) : options_(std::move(options)) {}

json ResponsesFormat::Object(const char* status) const {
  json object = options_.repeated;
  object.update({{"id", options_.id},
                 {"object", "response"},
                 {"created_at", options_.created},
                 {"status", status},
                 {"model", options_.model},
                 {"output", output_},
                 {"error", nullptr},
                 {"incomplete_details", nullptr},
                 {"usage", nullptr},
                 {"temperature", options_.temperature},
                 {"top_p", options_.top_p},
                 {"background", false},
                 {"store", false},
                 {"truncation", "disabled"},
                 {"previous_response_id", nullptr}});
  return object;
}

json ResponsesFormat::PartJson(const Item& item) {
  if (item.kind == Kind::kReasoning) return {{"type", "reasoning_text"}, {"text", item.text}};
  return {{"type", "output_text"},
          {"text", item.text},
          {"annotations", json::array()},
          {"logprobs", json::array()}};
}

json ResponsesFormat::ItemJson(const Item& item, const char* status) const {
  json made = {{"id", item.id}, {"status", status}};
  if (item.kind == Kind::kCall) {
    made.update({{"type", "function_call"},
                 {"call_id", item.call_id},
                 {"name", item.name},
                 {"arguments", item.text}});
    return made;
  }
  // An item is announced without its part.
  made["content"] = item.text.empty() ? json::array() : json::array({PartJson(item)});
  if (item.kind == Kind::kReasoning) {
    made.update({{"type", "reasoning"}, {"summary", json::array()}});
  } else {
    made.update({{"type", "message"}, {"role", "assistant"}});
  }
  return made;
}

json ResponsesFormat::Place() const {
  json place = {{"item_id", open_->id}, {"output_index", output_.size()}};
  if (open_->kind != Kind::kCall) place["content_index"] = 0;
  return place;
}

void ResponsesFormat::Send(const char* type, json event) {
  if (!options_.stream) return;
  event["type"] = type;
  event["sequence_number"] = sequence_++;
  events_ += std::string("event: ") + type + "\n" + Event(Dump(event));
}

void ResponsesFormat::Open(Item item) {
  Close("completed");
  open_ = std::move(item);
  Send("response.output_item.added",
       {{"output_index", output_.size()}, {"item", ItemJson(*open_, "in_progress")}});
  if (open_->kind == Kind::kCall) return;
  json part = Place();
  part["part"] = PartJson(*open_);
  Send("response.content_part.added", std::move(part));
}

void ResponsesFormat::Write(Kind kind, const std::string& text) {
  if (text.empty()) return;
  if (!open_ || open_->kind != kind) {
    Item item;
    item.kind = kind;
    item.id = RandomId(kind == Kind::kReasoning ? "rs_" : "msg_");
    Open(std::move(item));
  }
  open_->text += text;
  json delta = Place();
  delta["delta"] = text;
  if (kind == Kind::kMessage) delta["logprobs"] = json::array();
  Send(kind == Kind::kReasoning ? "response.reasoning_text.delta"
       : kind == Kind::kMessage ? "response.output_text.delta"
                                : "response.function_call_arguments.delta",
       std::move(delta));
}

void ResponsesFormat::Close(const char* status) {
  if (!open_) return;
  json done = Place();
  if (open_->kind == Kind::kCall) {
    done.update({{"name", open_->name}, {"arguments", open_->text}});
    Send("response.function_call_arguments.done", std::move(done));
  } else {
    json part = done;
    part["part"] = PartJson(*open_);
    done["text"] = open_->text;
    if (open_->kind == Kind::kMessage) done["logprobs"] = json::array();
    Send(open_->kind == Kind::kReasoning ? "response.reasoning_text.done" : "response.output_text.done",
         std::move(done));
    Send("response.content_part.done", std::move(part));
  }
  json item = ItemJson(*open_, status);
  Send("response.output_item.done", {{"output_index", output_.size()}, {"item", item}});
  output_.push_back(std::move(item));
  open_.reset();
}

std::string ResponsesFormat::Begin() {
  Send("response.created", {{"response", Object("in_progress")}});
  Send("response.in_progress", {{"response", Object("in_progress")}});
  return std::exchange(events_, {});
}

std::string ResponsesFormat::Add(size_t, ChoicePart part) {
  Write(Kind::kReasoning, part.piece.reasoning);
  Write(Kind::kMessage, part.piece.content);
  for (ToolCallDelta& call : part.piece.calls) {
    if (!call.name.empty()) {
      Item item;
      item.kind = Kind::kCall;
      item.id = RandomId("fc_");
      item.call_id = std::move(call.id);
      item.name = std::move(call.name);
      Open(std::move(item));
    }
    Write(Kind::kCall, call.arguments);
  }
  if (!part.finish_reason.empty()) {
    reason_ = std::move(part.finish_reason);
    Close(reason_ == "length" ? "incomplete" : "completed");
  }
  return std::exchange(events_, {});
}

std::string ResponsesFormat::Finish(const AnswerUsage& usage) {
  const bool cut = reason_ == "length";
  json object = Object(cut ? "incomplete" : "completed");
  if (cut) object["incomplete_details"] = {{"reason", "max_output_tokens"}};
  object["usage"] = {
      {"input_tokens", usage.prompt_tokens},
      {"input_tokens_details", {{"cached_tokens", usage.cached_tokens}, {"cache_write_tokens", 0}}},
      {"output_tokens", usage.completion_tokens},
      {"output_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}},
      {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
  if (!options_.stream) return Dump(object);
  Send(cut ? "response.incomplete" : "response.completed", {{"response", std::move(object)}});
  return std::exchange(events_, {});
}

std::string ResponsesFormat::Fail(const ApiError& error) {
  Close("incomplete");
  json object = Object("failed");
  object["error"] = {{"code", "server_error"}, {"message", error.message}};
  Send("response.failed", {{"response", std::move(object)}});
  return std::exchange(events_, {});
}

}  // namespace moraine
