#include "runtime/server/openai/response.h"

#include <fmt/core.h>

#include "runtime/core/version.h"
#include "runtime/text/utf8.h"

namespace moraine {
namespace {

using nlohmann::json;

json Base(const AnswerHead& head, bool chunk) {
  const char* object = !head.chat ? "text_completion" : chunk ? "chat.completion.chunk" : "chat.completion";
  return {{"id", head.id},
          {"object", object},
          {"created", head.created},
          {"model", head.model},
          {"system_fingerprint", fmt::format("moraine-{}", Version())}};
}

// `count` over `seconds`, null where nothing was measured.
json Rate(int64_t count, double seconds) {
  return seconds > 0 && count > 0 ? json(static_cast<double>(count) / seconds) : json();
}

// As llama.cpp's clients know it.
json Timings(const AnswerUsage& usage) {
  const int64_t computed = usage.prompt_tokens - usage.cached_tokens;
  return {{"cache_n", usage.cached_tokens},
          {"prompt_n", computed},
          {"prompt_ms", 1e3 * usage.prefill_seconds},
          {"prompt_per_second", Rate(computed, usage.prefill_seconds)},
          {"predicted_n", usage.completion_tokens},
          {"predicted_ms", 1e3 * usage.decode_seconds},
          // The first token is prefill's.
          {"predicted_per_second", Rate(usage.completion_tokens - 1, usage.decode_seconds)},
          {"queue_ms", 1e3 * usage.queue_seconds}};
}

json Delta(const ChunkParts& parts) {
  json delta = json::object();
  if (parts.first) delta = {{"role", "assistant"}, {"content", ""}};
  // Clients know reasoning by one name or the other.
  if (!parts.piece.reasoning.empty()) {
    delta["reasoning_content"] = parts.piece.reasoning;
    delta["reasoning"] = parts.piece.reasoning;
  }
  if (!parts.piece.content.empty()) delta["content"] = parts.piece.content;
  for (const ToolCallDelta& call : parts.piece.calls) {
    json one = {{"index", call.index}, {"function", {{"arguments", call.arguments}}}};
    if (!call.name.empty()) {
      one["id"] = call.id;
      one["type"] = "function";
      one["function"]["name"] = call.name;
    }
    delta["tool_calls"].push_back(std::move(one));
  }
  return delta;
}

json ChatMessage(const WholeChoice& choice) {
  json message = {{"role", "assistant"}, {"content", choice.content}};
  if (!choice.reasoning.empty()) {
    message["reasoning_content"] = choice.reasoning;
    message["reasoning"] = choice.reasoning;
  }
  if (choice.calls.empty()) return message;
  if (choice.content.empty()) message["content"] = nullptr;
  for (const ToolCall& call : choice.calls) {
    message["tool_calls"].push_back({{"id", call.id},
                                     {"type", call.type},
                                     {"function", {{"name", call.name}, {"arguments", call.arguments}}}});
  }
  return message;
}

std::string BytesName(const std::string& bytes) {
  std::string name = "bytes:";
  for (const char byte : bytes) name += fmt::format("\\x{:02x}", static_cast<unsigned char>(byte));
  return name;
}

json ByteList(const std::string& bytes) {
  json list = json::array();
  for (const char byte : bytes) list.push_back(static_cast<unsigned char>(byte));
  return list;
}

}  // namespace

std::string Dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

std::string Event(const std::string& data) { return "data: " + data + "\n\n"; }

void LogprobWriter::Add(int32_t id, const TokenLogprobs* logprobs) {
  tokens_.push_back({id, logprobs == nullptr ? std::nullopt : std::optional(*logprobs)});
}

std::string LogprobWriter::Text(int32_t id) const {
  const std::string bytes(tokenizer_.Piece(id));
  return IsUtf8(bytes) ? bytes : BytesName(bytes);
}

json LogprobWriter::Take(bool chat) {
  if (!chat) return TakePlain();
  const auto entry = [&](int32_t id, float logprob) -> json {
    return {
        {"token", Text(id)}, {"logprob", logprob}, {"bytes", ByteList(std::string(tokenizer_.Piece(id)))}};
  };
  json content = json::array();
  for (const Token& token : tokens_) {
    json one = entry(token.id, token.logprobs ? token.logprobs->logprob : 0.f);
    one["top_logprobs"] = json::array();
    if (token.logprobs) {
      for (const auto& [id, logprob] : token.logprobs->best)
        one["top_logprobs"].push_back(entry(id, logprob));
    }
    content.push_back(std::move(one));
  }
  tokens_.clear();
  return {{"content", std::move(content)}, {"refusal", nullptr}};
}

json LogprobWriter::TakePlain() {
  json tokens = json::array();
  json values = json::array();
  json tops = json::array();
  json offsets = json::array();
  for (const Token& token : tokens_) {
    const std::string text = Text(token.id);
    tokens.push_back(text);
    offsets.push_back(offset_);
    // OpenAI counts characters.
    for (const char byte : std::string(tokenizer_.Piece(token.id)))
      offset_ += (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
    if (!token.logprobs) {
      values.push_back(nullptr);
      tops.push_back(nullptr);
      continue;
    }
    values.push_back(token.logprobs->logprob);
    json top = json::object();
    for (const auto& [id, logprob] : token.logprobs->best) top[Text(id)] = logprob;
    // The token's own stands among them, as in OpenAI's answers.
    top[text] = token.logprobs->logprob;
    tops.push_back(std::move(top));
  }
  tokens_.clear();
  return {{"tokens", std::move(tokens)},
          {"token_logprobs", std::move(values)},
          {"top_logprobs", std::move(tops)},
          {"text_offset", std::move(offsets)}};
}

json UsageJson(const AnswerUsage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
          {"completion_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}}};
}

std::string WholeAnswer(const AnswerHead& head, const std::vector<WholeChoice>& choices,
                        const AnswerUsage& usage) {
  json body = Base(head, false);
  json& list = body["choices"] = json::array();
  for (size_t i = 0; i < choices.size(); ++i) {
    const WholeChoice& choice = choices[i];
    json one = {{"index", i}, {"finish_reason", choice.finish_reason}, {"logprobs", choice.logprobs}};
    if (head.chat) {
      one["message"] = ChatMessage(choice);
    } else {
      one["text"] = choice.content;
    }
    if (choice.token_ids) one["token_ids"] = *choice.token_ids;
    if (choice.prompt_ids) one["prompt_token_ids"] = *choice.prompt_ids;
    list.push_back(std::move(one));
  }
  body["usage"] = UsageJson(usage);
  body["timings"] = Timings(usage);
  return Dump(body);
}

std::string Chunk(const AnswerHead& head, const ChunkParts& parts) {
  json body = Base(head, true);
  json choice = {{"index", parts.index},
                 {"logprobs", parts.logprobs},
                 {"finish_reason", parts.finish_reason.empty() ? json() : json(parts.finish_reason)}};
  if (head.chat) {
    choice["delta"] = Delta(parts);
  } else {
    choice["text"] = parts.piece.content;
  }
  if (!parts.token_ids.empty()) choice["token_ids"] = parts.token_ids;
  body["choices"] = json::array({std::move(choice)});
  if (head.usage_in_chunks) body["usage"] = nullptr;
  return Dump(body);
}

std::string UsageChunk(const AnswerHead& head, const AnswerUsage& usage) {
  json body = Base(head, true);
  body["choices"] = json::array();
  body["usage"] = UsageJson(usage);
  body["timings"] = Timings(usage);
  return Dump(body);
}

}  // namespace moraine
