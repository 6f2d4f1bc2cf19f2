// The one error channel: Result<T>, Status and Error.
//
// Three kinds of failure, told apart everywhere: a bug is a MORAINE_CHECK (check.h) and aborts; the world (a
// file, memory, a device) is an Error returned through Result; a lost device is an Error of kind kDeviceLost
// that ends the session. No exception crosses a door, and nothing is printed below tools/.
#pragma once

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace moraine {

/// What kind of world failed. tools/ turns each into one exit code (ExitCode below), so a new kind needs a
/// code there.
enum class ErrorKind {
  kDoesNotFit,  // the plan or a requirement cannot be met on this machine
  kUsage,       // a flag, a policy file, a request: the caller can mend it
  kModel,       // checkpoint, tokenizer or template files: unreadable, incomplete, contradictory, unsupported
  kHardware,    // topology, memory or device could not be read
  kIo,          // reading or writing failed at run time
  kInternal,  // a limit of ours, an allocation that failed after the plan allowed it, NaN in the forward pass
  kDeviceLost,   // the GPU is gone; the process must end
  kInterrupted,  // the user asked to stop, or a deadline came
  kBusy,         // as much as may wait does already: the same later may go
};

/// An error carries one line for the user: the object, the offset, what was expected and found, and the next
/// step.
struct Error {
  ErrorKind kind = ErrorKind::kInternal;
  std::string message;
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

/// Builds the error branch of any Result: `return Fail(ErrorKind::kModel, fmt::format(...));`
[[nodiscard]] inline tl::unexpected<Error> Fail(ErrorKind kind, std::string message) {
  return tl::unexpected<Error>(Error{kind, std::move(message)});
}

/// Passes an error on with `context` before it ("context: message"), keeping its kind.
[[nodiscard]] tl::unexpected<Error> Fail(const Error& error, const std::string& context);

/// The process exit code that stands for `kind`: 0 ok, 1 does not fit, 2 usage or policy, 3 model files,
/// 4 hardware unreadable, 5 I/O or internal, 70 device lost, 75 busy (try again), 130 interrupted.
int ExitCode(ErrorKind kind);

}  // namespace moraine

/// Returns the error of `expr` (a Status or Result) from the enclosing function.
#define MORAINE_RETURN_IF_ERROR(expr)                                \
  do {                                                               \
    if (auto moraine_status_ = (expr); !moraine_status_.has_value()) \
      return ::tl::unexpected(std::move(moraine_status_).error());   \
  } while (false)

/// `MORAINE_ASSIGN_OR_RETURN(auto x, MakeX());`: declares x from a Result or returns its error.
#define MORAINE_ASSIGN_OR_RETURN(lhs, expr) MORAINE_ASSIGN_OR_RETURN_AT(lhs, expr, __LINE__)
#define MORAINE_ASSIGN_OR_RETURN_AT(lhs, expr, line) MORAINE_ASSIGN_OR_RETURN_NAMED(lhs, expr, line)
#define MORAINE_ASSIGN_OR_RETURN_NAMED(lhs, expr, line)                                                      \
  auto moraine_result_##line = (expr);                                                                       \
  if (!moraine_result_##line.has_value()) return ::tl::unexpected(std::move(moraine_result_##line).error()); \
  lhs = std::move(moraine_result_##line).value()
