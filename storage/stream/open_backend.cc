#include "storage/stream/open_backend.h"

#include <algorithm>

#include "storage/stream/pread_backend.h"

namespace moraine {

Result<OpenedBackend> OpenBackend(const StreamerOptions& options, const StreamFiles& files) {
  int devices = 1;
  for (const int device : files.device_of()) devices = std::max(devices, device + 1);
  OpenedBackend opened;
  MORAINE_ASSIGN_OR_RETURN(opened.backend, PreadBackend::Open(options.depth * devices));
  return opened;
}

}  // namespace moraine
