// Files full of random bytes to stream experts from, laid out as a checkpoint's: three tensors an expert, at
// any offset.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/core/file.h"
#include "runtime/core/result.h"

namespace moraine::tools {

/// One expert on disk: gate, up and down, each `tensor_bytes` long, one behind the other from `offset` on.
struct StoredExpert {
  int32_t file = 0;
  int64_t offset = 0;
};

/// Removes its files at the end, unless told to keep them. Files of the right size from an earlier run are
/// used again.
class ExpertFiles {
 public:
  /// Writes `gib` in two files to `folder` (which it makes), past the page cache. kDoesNotFit when less than
  /// that and 1 GiB is free; kIo when writing fails; kInterrupted.
  static Result<ExpertFiles> Make(const std::string& folder, double gib, bool keep);
  ExpertFiles(ExpertFiles&& other) noexcept;
  ExpertFiles& operator=(ExpertFiles&&) = delete;
  ~ExpertFiles();

  const std::vector<File>& files() const { return files_; }
  /// All experts of three times `tensor_bytes` that fit, in random order, none at a block's beginning.
  std::vector<StoredExpert> Experts(int64_t tensor_bytes) const;

 private:
  ExpertFiles() = default;
  std::string folder_;
  bool keep_ = false;
  bool made_folder_ = false;
  std::vector<std::string> paths_;
  std::vector<File> files_;
};

}  // namespace moraine::tools
