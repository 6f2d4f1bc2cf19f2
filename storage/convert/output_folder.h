// A model folder in the making: space is asked for first, config.json comes last, and what was begun and not
// finished is removed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/core/file.h"
#include "runtime/core/handle.h"
#include "runtime/core/result.h"

namespace moraine {

/// Called with bytes done and bytes in all, from one thread at a time; false stops the work (kInterrupted).
using WorkProgress = std::function<bool(int64_t done, int64_t total)>;

/// A new file of a known size, written at any offset and from any thread. Move-only.
class OutputFile {
 public:
  /// kIo names the file, the offset and the reason (a full disk among them).
  Status WriteAt(int64_t offset, std::span<const std::byte> bytes) const;
  /// Waits until the disk has it.
  Status Sync() const;

 private:
  friend class OutputFolder;
  Handle<FdTraits> fd_;
  std::string path_;
};

/// Until Finish the folder has no config.json, so neither we nor others take it for a model; the destructor
/// removes an unfinished folder's files, and the folders that Create made. A process that is killed leaves
/// them.
class OutputFolder {
 public:
  /// `path` is an empty folder or does not exist yet, and then is made, parents too; kUsage otherwise.
  /// kDoesNotFit says how much of `bytes` its file system lacks. Writes nothing but folders.
  static Result<std::unique_ptr<OutputFolder>> Create(const std::string& path, int64_t bytes);
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  /// A new file of `bytes` bytes that read as zero and take no space until they are written.
  Result<OutputFile> CreateFile(const std::string& name, int64_t bytes);
  /// A whole file, on the disk when this returns.
  Status WriteText(const std::string& name, const std::string& text);
  /// Copies `from`; the same promise.
  Status CopyFile(const std::string& name, const File& from);
  /// Writes config.json under another name and moves it in place: from then on this is a model.
  Status Finish(const std::string& config_text);

 private:
  OutputFolder() = default;
  std::string path_;
  std::vector<std::string> files_;
  std::vector<std::string> made_;  // folders, the outermost first
  bool finished_ = false;
};

/// Runs work(0) ... work(count - 1) on as many threads as there are CPUs, in no order. The first error stops
/// the rest and is returned.
Status InParallel(int64_t count, const std::function<Status(int64_t)>& work);

}  // namespace moraine
