// How fast a drive gives pieces of 1 MiB from random places, by how many are asked for at once.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "runtime/core/file.h"
#include "runtime/core/result.h"
#include "runtime/hardware.h"

namespace moraine::tools {

/// Files to read from, all of which the drive can give past the page cache.
struct DriveFiles {
  std::vector<File> files;
  Handle<FdTraits> nameless;  // of a file made for the purpose, which goes with it, however the process ends
  int64_t bytes = 0;
  std::string note;  // what is special about them; may be empty
};

/// The weight files of a folder (*.safetensors, of which no part is a hole) or the file at `path`; where that
/// is less than 256 MiB, up to `make_bytes` of random bytes written into the folder, for at most `seconds`.
/// kDoesNotFit when not even 128 MiB can be made and 1 GiB stay free, kIo when the system refuses O_DIRECT or
/// writing.
Result<DriveFiles> FilesToRead(const std::string& path, int64_t make_bytes, double seconds);

/// Through the Streamer, for about `seconds` at each of `depths`. Blocks. kIo, kInterrupted.
Result<std::vector<DepthRate>> ReadByDepth(std::span<const File> files, std::span<const int> depths,
                                           double seconds);

}  // namespace moraine::tools
