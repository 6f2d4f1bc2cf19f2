// Which model it is, told apart without reading all of its weights.
#pragma once

#include "runtime/core/result.h"
#include "runtime/core/sha256.h"
#include "storage/checkpoint.h"

namespace moraine {

/// Digest of config.json and, for each shard, of its size, the time it was last changed, its inode and its
/// first and last 64 KiB. A copy of a checkpoint is another model; so is one that was changed in any way that
/// leaves a trace in the file system. Reads 128 KiB a shard. kModel, kIo as File.
Result<Digest> ModelIdentity(const Checkpoint& checkpoint);

}  // namespace moraine
