#include "tools/chat_client.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "runtime/core/json_guard.h"
#include "runtime/core/printable.h"
#include "tools/event_stream.h"
#include "tools/server_access.h"

namespace moraine::tools {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLoadingPause{500};

std::string HowToStart(const HttpTarget& server) {
  if (server.socket == DefaultSocket()) return "moraine serve MODEL";
  if (!server.socket.empty()) return fmt::format("moraine serve MODEL --listen unix:{}", server.socket);
  return fmt::format("moraine serve MODEL --listen {}:{}", server.host, server.port);
}

// Of a JSON object, whatever it is: what a server says is nobody's promise.
const json& Member(const json& object, const char* name) {
  static const json kNull;
  const auto found = object.is_object() ? object.find(name) : object.end();
  return !object.is_object() || found == object.end() ? kNull : *found;
}
std::string Text(const json& value) { return value.is_string() ? value.get<std::string>() : ""; }
int64_t Count(const json& value) { return value.is_number_integer() ? value.get<int64_t>() : 0; }
std::optional<double> Number(const json& value) {
  return value.is_number() ? std::optional(value.get<double>()) : std::nullopt;
}

tl::unexpected<Error> Refused(int status, const json& body) {
  const json& error = Member(body, "error");
  const std::string said = Text(Member(error, "message"));
  const ErrorKind kind = status == 429 || status == 503  ? ErrorKind::kBusy
                         : status >= 400 && status < 500 ? ErrorKind::kUsage
                                                         : ErrorKind::kInternal;
  if (status == 401)
    return Fail(kind, "the server asks for its API key: --api-key-file or MORAINE_API_KEY gives it");
  return Fail(kind, said.empty() ? fmt::format("the server answers {}", status) : Printable(said, 2000));
}

json Parsed(const std::string& text) {
  auto parsed = ParseJson(text, "the answer");
  return parsed.has_value() ? std::move(*parsed) : json();
}

json Request(const std::vector<ChatMessage>& messages, const ChatOptions& options) {
  json body = {{"stream", true}, {"stream_options", {{"include_usage", true}}}};
  json& list = body["messages"] = json::array();
  for (const ChatMessage& message : messages) {
    json one = {{"role", message.role}, {"content", message.content}};
    if (!message.reasoning.empty()) one["reasoning_content"] = message.reasoning;
    list.push_back(std::move(one));
  }
  if (!options.model.empty()) body["model"] = options.model;
  if (options.temperature) body["temperature"] = *options.temperature;
  if (options.top_p) body["top_p"] = *options.top_p;
  if (options.seed) body["seed"] = *options.seed;
  if (options.max_tokens > 0) body["max_tokens"] = options.max_tokens;
  return body;
}

// Builds the reply from the chunks of a stream.
class ReplyReader {
 public:
  explicit ReplyReader(const std::function<void(const ThinkChunk&)>& sink) : sink_(sink) {}

  void Event(const std::string& data) {
    if (data == "[DONE]") {
      done_ = true;
      return;
    }
    const json chunk = Parsed(data);
    if (!Member(chunk, "error").is_null()) {
      failed_ = Refused(500, chunk).value();
      return;
    }
    const json& choices = Member(chunk, "choices");
    if (choices.is_array() && !choices.empty()) Choice(choices.front());
    if (Member(chunk, "usage").is_object()) Usage(chunk);
  }

  /// What came; an error when it ends otherwise than a stream does.
  Result<ChatReply> Finish() {
    if (failed_) return tl::unexpected(*failed_);
    if (!done_) return Fail(ErrorKind::kIo, "the answer ends in the middle");
    return std::move(reply_);
  }
  ChatReply Stopped() { return std::move(reply_); }

 private:
  void Choice(const json& choice) {
    const json& delta = Member(choice, "delta");
    const ThinkChunk chunk{.reasoning = Text(Member(delta, "reasoning_content")),
                           .answer = Text(Member(delta, "content"))};
    if (!chunk.reasoning.empty() || !chunk.answer.empty()) {
      if (!reply_.first_token_s)
        reply_.first_token_s = std::chrono::duration<double>(Clock::now() - began_).count();
      reply_.reasoning += chunk.reasoning;
      reply_.text += chunk.answer;
      if (sink_) sink_(chunk);
    }
    if (const std::string reason = Text(Member(choice, "finish_reason")); !reason.empty())
      reply_.finish_reason = reason;
  }

  void Usage(const json& chunk) {
    const json& usage = Member(chunk, "usage");
    reply_.prompt_tokens = Count(Member(usage, "prompt_tokens"));
    reply_.completion_tokens = Count(Member(usage, "completion_tokens"));
    reply_.cached_tokens = Count(Member(Member(usage, "prompt_tokens_details"), "cached_tokens"));
    reply_.reasoning_tokens = Count(Member(Member(usage, "completion_tokens_details"), "reasoning_tokens"));
    reply_.decode_tok_s = Number(Member(Member(chunk, "timings"), "predicted_per_second"));
  }

  const std::function<void(const ThinkChunk&)>& sink_;
  const Clock::time_point began_ = Clock::now();
  ChatReply reply_;
  bool done_ = false;
  std::optional<Error> failed_;
};

}  // namespace

std::string Figures(const ChatReply& reply) {
  const std::string first =
      reply.first_token_s ? fmt::format("first token after {:.2f} s", *reply.first_token_s) : "no token";
  if (reply.finish_reason.empty()) return fmt::format("stopped; {}", first);
  const std::string rate = reply.decode_tok_s ? fmt::format(" at {:.1f} tok/s", *reply.decode_tok_s) : "";
  const std::string thought =
      reply.reasoning_tokens > 0 ? fmt::format(" ({} of thinking)", reply.reasoning_tokens) : "";
  return fmt::format("{} tokens{}{}, {}; prompt of {}, {} reused{}", reply.completion_tokens, thought, rate,
                     first, reply.prompt_tokens, reply.cached_tokens,
                     reply.finish_reason == "stop" ? "" : "; ended by " + reply.finish_reason);
}

Result<std::string> ChatClient::Open(const std::string& wanted,
                                     const std::function<void(const std::string&)>& say,
                                     const std::function<bool()>& stop) const {
  std::string said;
  while (true) {
    const auto health = CallHttp(server_, {.path = "/health", .body = "", .key = key_}, {}, stop);
    if (!health.has_value()) {
      if (health.error().kind != ErrorKind::kIo) return tl::unexpected(health.error());
      return Fail(ErrorKind::kIo,
                  fmt::format("{}; start a server: {}", health.error().message, HowToStart(server_)));
    }
    if (health->status == 200) break;
    const json body = Parsed(health->body);
    if (Text(Member(Member(body, "error"), "code")) != "loading") return Refused(health->status, body);
    if (const std::string now = Text(Member(Member(body, "error"), "message")); now != said) {
      said = now;
      say(Printable(said));
    }
    std::this_thread::sleep_for(kLoadingPause);
  }
  const auto answer = CallHttp(server_, {.path = "/v1/models", .body = "", .key = key_}, {}, stop);
  if (!answer.has_value()) return tl::unexpected(answer.error());
  const json body = Parsed(answer->body);
  if (answer->status != 200) return Refused(answer->status, body);
  std::vector<std::string> names;
  const json& list = Member(body, "data");
  for (size_t i = 0; list.is_array() && i < list.size(); ++i) names.push_back(Text(Member(list[i], "id")));
  if (names.empty()) return Fail(ErrorKind::kInternal, fmt::format("{}: it names no model", server_.Name()));
  if (wanted.empty()) return names.front();
  if (std::ranges::find(names, wanted) != names.end()) return wanted;
  return Fail(ErrorKind::kUsage, fmt::format("--model {}: the server has {}", Printable(wanted, 100),
                                             Printable(names.front(), 100)));
}

Result<ChatReply> ChatClient::Ask(const std::vector<ChatMessage>& messages, const ChatOptions& options,
                                  const std::function<void(const ThinkChunk&)>& sink,
                                  const std::function<bool()>& stop) const {
  // A question with bytes that are no UTF-8 is sent as what it reads like.
  const std::string body = Request(messages, options).dump(-1, ' ', false, json::error_handler_t::replace);
  ReplyReader reader(sink);
  EventStream events;
  const auto answer = CallHttp(
      server_, {.path = "/v1/chat/completions", .body = body, .key = key_},
      [&](std::string_view piece) {
        events.Push(piece, [&](const std::string& data) { reader.Event(data); });
      },
      stop);
  if (!answer.has_value()) {
    if (answer.error().kind == ErrorKind::kInterrupted) return reader.Stopped();
    return tl::unexpected(answer.error());
  }
  if (answer->status != 200) return Refused(answer->status, Parsed(answer->body));
  return reader.Finish();
}

}  // namespace moraine::tools
