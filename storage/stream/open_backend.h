// Which backend moves the bytes: io_uring where the system has it, threads where it refuses.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/core/result.h"
#include "storage/stream/backend.h"
#include "storage/stream/stream_files.h"
#include "storage/streamer.h"

namespace moraine {

struct OpenedBackend {
  std::unique_ptr<StreamBackend> backend;
  std::vector<std::string> notices;  // what fell back, and why
};

/// For `options.depth` reads on each device of `files`.
Result<OpenedBackend> OpenBackend(const StreamerOptions& options, const StreamFiles& files);

}  // namespace moraine
