// Where a user's server listens when nobody says otherwise, and the key that clients show it.
#pragma once

#include <string>

#include "runtime/core/result.h"

namespace moraine::tools {

/// $XDG_RUNTIME_DIR/moraine/serve.sock, else /tmp/moraine-UID/serve.sock.
std::string DefaultSocket();

/// From `file`, so that it is in no list of processes; without one from MORAINE_API_KEY. Empty: none is set.
/// Says so on stderr when others can read the file. kUsage: the file cannot be read or holds no key, or the
/// key has other than printable ASCII.
Result<std::string> ApiKey(const std::string& file);

}  // namespace moraine::tools
