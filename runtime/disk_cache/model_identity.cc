#include "runtime/disk_cache/model_identity.h"

#include <algorithm>
#include <string>
#include <vector>

#include "runtime/core/file.h"

namespace moraine {
namespace {

constexpr int64_t kEndBytes = 64 << 10;
constexpr int64_t kMostConfigBytes = 16 << 20;

}  // namespace

Result<Digest> ModelIdentity(const Checkpoint& checkpoint) {
  Sha256 sum;
  MORAINE_ASSIGN_OR_RETURN(const std::string config,
                           ReadText(checkpoint.folder() + "/config.json", kMostConfigBytes));
  sum.AddField(config).AddField(checkpoint.shape().mtp_layers);
  std::vector<std::byte> bytes;
  for (const File& shard : checkpoint.shards()) {
    const FileIdentity& identity = shard.identity();
    sum.AddField(identity.bytes).AddField(identity.mtime_ns).AddField(static_cast<int64_t>(identity.inode));
    bytes.resize(static_cast<size_t>(std::min(kEndBytes, identity.bytes)));
    for (const int64_t offset : {int64_t{0}, identity.bytes - static_cast<int64_t>(bytes.size())}) {
      MORAINE_RETURN_IF_ERROR(shard.ReadAt(offset, bytes));
      sum.Add(bytes);
    }
  }
  return sum.Finish();
}

}  // namespace moraine
