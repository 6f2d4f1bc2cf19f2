// Which drive lies behind a path, and what can be done with it.
#pragma once

#include <string>

#include "runtime/hardware.h"

namespace moraine {

/// Never fails: what cannot be found out is left empty or said in the notes. `root` stands for "/" of /proc
/// and /sys in tests; `path` itself, or the nearest folder above it that exists, is always a real one. Reads
/// one block past the page cache: of a file that is there, or of one without a name that goes when it is
/// closed.
Drive ReadDrive(const std::string& path, const std::string& root = "");

}  // namespace moraine
