// A trace file as replays and profiles take it.
#pragma once

#include <cstdint>
#include <string>

#include "policies/routing_trace.h"
#include "runtime/core/result.h"

namespace moraine::tools {

/// Reads a trace file. kIo for the file; `notice` takes what the reader says of its end.
struct LoadedTrace {
  RoutingTrace routing;
  int64_t expert_bytes = 0;
  std::string format;
  std::string notice;
};
Result<LoadedTrace> LoadTrace(const std::string& path);

}  // namespace moraine::tools
