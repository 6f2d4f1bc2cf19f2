// CallHttp: one request to a server, over a Unix socket or TCP, and its answer piece by piece as it comes.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "runtime/core/result.h"

namespace moraine {

/// Where a server listens: a Unix socket, or else a TCP address.
struct HttpTarget {
  std::string socket;  // path; empty: TCP
  std::string host;
  std::string port;

  /// "unix:/run/m.sock", "http://127.0.0.1:8080"
  std::string Name() const;
};

/// "http://HOST", "http://HOST:PORT", "http://[V6]:PORT"; "/v1" behind it, as clients want it, is dropped.
/// kUsage says what was expected.
Result<HttpTarget> ParseHttpUrl(const std::string& url);

struct HttpCall {
  std::string path;
  std::string body;  // JSON, sent with POST; empty: GET
  std::string key;   // sent as "Authorization: Bearer"; empty: none
};

struct HttpAnswer {
  int status = 0;
  std::string body;  // but for what went to `on_body`
};

/// Connects, sends and reads to the answer's end; a connection serves one call. The body of a 200 goes to
/// `on_body` as it comes, where there is one. `stop` is asked about 20 times a second; once true the
/// connection is closed, which cancels the request at the server. Blocks; any thread.
/// kIo: nobody listens there, the connection ends early, or nothing comes for two minutes (a server of ours
/// says something every 15 s); kInterrupted: `stop`.
Result<HttpAnswer> CallHttp(const HttpTarget& target, const HttpCall& call,
                            const std::function<void(std::string_view)>& on_body,
                            const std::function<bool()>& stop);

}  // namespace moraine
