// ApiError: what a client reads when a request cannot be served, in OpenAI's form.
#pragma once

#include <string>

#include "runtime/core/result.h"
#include "runtime/server/http/http_server.h"

namespace moraine {

struct ApiError {
  int status = 400;
  std::string code;   // "context_length_exceeded"; empty: null
  std::string param;  // the field ("messages[3].content"); empty: null
  std::string message;
  int retry_after_s = 0;  // 0: the same request would fail again
};

template <typename T>
using ApiResult = tl::expected<T, ApiError>;

/// What an error of the engine is to a client: its own fault (400), too much at once (429), or ours (5xx).
ApiError FromError(const Error& error);

/// {"error": {"message", "type", "param", "code"}}; the type follows the status.
std::string ErrorBody(const ApiError& error);

/// With that body, Retry-After where there is one, and x-should-retry: false where there is none, so that
/// clients do not pay for the same failure three times.
HttpResponse ErrorResponse(const ApiError& error);

}  // namespace moraine
