// A file that others see whole or not at all.
#pragma once

#include <string>

#include "runtime/core/result.h"

namespace moraine::tools {

/// Writes `text` beside `path` and moves it in place of what was there. kIo names the path and what the
/// system refused; then nothing has changed. kOwner: nobody else may read it.
enum class Readers { kAll, kOwner };
Status WriteWhole(const std::string& path, const std::string& text, Readers readers = Readers::kAll);

}  // namespace moraine::tools
