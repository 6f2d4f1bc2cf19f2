// Where what moraine keeps for a user lies, and folders that are nobody else's business.
#pragma once

#include <string>

#include "runtime/core/result.h"

namespace moraine::tools {

/// $<variable>/moraine/<name>, or ~/<fallback>/moraine/<name> where the variable holds no absolute path
/// ("XDG_CACHE_HOME", ".cache"); empty when HOME is not set either.
std::string UserFile(const char* variable, const char* fallback, const char* name);

/// Makes the folders that a file at `path` lies in, each that is missing with mode 0700. kIo names the first
/// that cannot be made.
Status MakeFoldersOf(const std::string& path);

}  // namespace moraine::tools
