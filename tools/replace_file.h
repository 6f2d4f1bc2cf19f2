// Writes a whole file or none: beside its place first, then into it.
#pragma once

#include <string>

#include "runtime/core/result.h"

namespace moraine::tools {

/// Puts `text` in the place of the file at `path`, on the disk when this returns; whoever reads meanwhile
/// sees the old file or the new one. kIo names the file and what the system refused; the old file then stays.
Status ReplaceFile(const std::string& path, const std::string& text);

}  // namespace moraine::tools
