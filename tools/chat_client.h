// ChatClient: asks a server's /v1/chat/completions and hears the answer as it comes.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/server/http/http_call.h"
#include "runtime/text/think_splitter.h"

namespace moraine::tools {

struct ChatMessage {
  std::string role;
  std::string content;
  std::string reasoning;  // of an assistant; may be empty
};

/// What a question is sent with; what is absent the server decides.
struct ChatOptions {
  std::string model;  // empty: the server's first
  std::optional<double> temperature, top_p;
  std::optional<uint64_t> seed;
  int64_t max_tokens = 0;  // 0: as many as fit
};

/// An answer, or what there was of it when it was stopped. Counts and rates are the server's, of a whole
/// answer only.
struct ChatReply {
  std::string reasoning;
  std::string text;
  std::string finish_reason;  // "stop", "length"; empty: stopped
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of them, found in the prefix cache
  int64_t completion_tokens = 0;
  int64_t reasoning_tokens = 0;
  std::optional<double> decode_tok_s;
  std::optional<double> first_token_s;  // from the request on, as it was here
};

/// The line under an answer, without its newline.
std::string Figures(const ChatReply& reply);

/// Blocks; one call at a time. `stop` of each call ends it with kInterrupted.
class ChatClient {
 public:
  ChatClient(HttpTarget server, std::string key) : server_(std::move(server)), key_(std::move(key)) {}

  /// Asks until the model is loaded, with `say` hearing how far that is. kIo: no server there, and the
  /// command that starts one; kUsage: the key is wrong, or the server lacks the model asked for. Returns the
  /// name of the model: `wanted`, or the server's first.
  Result<std::string> Open(const std::string& wanted, const std::function<void(const std::string&)>& say,
                           const std::function<bool()>& stop) const;

  /// `sink` hears the text as it comes. A `stop` gives what there is, with no finish_reason. kUsage: the
  /// server refuses the request; kBusy: it takes nothing now; kInternal: it failed; kIo.
  Result<ChatReply> Ask(const std::vector<ChatMessage>& messages, const ChatOptions& options,
                        const std::function<void(const ThinkChunk&)>& sink,
                        const std::function<bool()>& stop) const;

  const HttpTarget& server() const { return server_; }

 private:
  HttpTarget server_;
  std::string key_;
};

}  // namespace moraine::tools
