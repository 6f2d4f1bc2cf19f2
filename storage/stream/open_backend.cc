#include "storage/stream/open_backend.h"

#include <algorithm>

#include "storage/stream/pread_backend.h"
#include "storage/stream/uring_backend.h"

namespace moraine {

Result<OpenedBackend> OpenBackend(const StreamerOptions& options, const StreamFiles& files) {
  int devices = 1;
  for (const int device : files.device_of()) devices = std::max(devices, device + 1);
  const int reads = options.depth * devices;
  OpenedBackend opened;
  if (options.backend != StreamBackendKind::kPread) {
    UringBackend::Options ring{.reads = reads, .fds = {}, .memory = options.memory};
    for (size_t f = 0; f < files.size(); ++f) ring.fds.push_back(files.fd(static_cast<int32_t>(f)));
    auto uring = UringBackend::Open(ring);
    if (uring.has_value()) {
      if (!(*uring)->notice().empty()) opened.notices.push_back((*uring)->notice());
      opened.backend = std::move(*uring);
      return opened;
    }
    if (options.backend == StreamBackendKind::kUring || uring.error().kind != ErrorKind::kHardware)
      return tl::unexpected(uring.error());
    opened.notices.push_back(uring.error().message + "; threads that call pread read instead");
  }
  MORAINE_ASSIGN_OR_RETURN(opened.backend, PreadBackend::Open(reads));
  return opened;
}

}  // namespace moraine
