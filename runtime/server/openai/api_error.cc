#include "runtime/server/openai/api_error.h"

#include <nlohmann/json.hpp>

namespace moraine {
namespace {

const char* TypeOf(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 429:
      return "rate_limit_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

}  // namespace

ApiError FromError(const Error& error) {
  ApiError made;
  made.message = error.message;
  switch (error.kind) {
    case ErrorKind::kUsage:
      return made;
    case ErrorKind::kBusy:
      made.status = 429;
      made.code = "queue_full";
      made.retry_after_s = 5;
      return made;
    case ErrorKind::kInterrupted:
      made.status = 503;
      made.code = "stopped";
      made.retry_after_s = 10;
      return made;
    default:
      made.status = 500;
      made.code = error.kind == ErrorKind::kDeviceLost ? "device_lost"
                  : error.kind == ErrorKind::kIo       ? "io_error"
                                                       : "internal_error";
      return made;
  }
}

std::string ErrorBody(const ApiError& error) {
  const auto text_or_null = [](const std::string& text) {
    return text.empty() ? nlohmann::json() : nlohmann::json(text);
  };
  const nlohmann::json body = {{"error",
                                {{"message", error.message},
                                 {"type", TypeOf(error.status)},
                                 {"param", text_or_null(error.param)},
                                 {"code", text_or_null(error.code)}}}};
  return body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

HttpResponse ErrorResponse(const ApiError& error) {
  HttpResponse response{.status = error.status, .body = ErrorBody(error)};
  if (error.retry_after_s > 0) {
    response.headers.emplace_back("Retry-After", std::to_string(error.retry_after_s));
  } else {
    response.headers.emplace_back("x-should-retry", "false");
  }
  return response;
}

}  // namespace moraine
