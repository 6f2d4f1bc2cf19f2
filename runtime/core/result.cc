#include "runtime/core/result.h"

#include "runtime/core/check.h"

namespace moraine {

tl::unexpected<Error> Fail(const Error& error, const std::string& context) {
  return Fail(error.kind, context + ": " + error.message);
}

int ExitCode(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kDoesNotFit:
      return 1;
    case ErrorKind::kUsage:
      return 2;
    case ErrorKind::kModel:
      return 3;
    case ErrorKind::kHardware:
      return 4;
    case ErrorKind::kIo:
    case ErrorKind::kInternal:
      return 5;
    case ErrorKind::kDeviceLost:
      return 70;
    case ErrorKind::kBusy:
      return 75;
    case ErrorKind::kInterrupted:
      return 130;
  }
  MORAINE_CHECK(false);
}

}  // namespace moraine
