// StreamFiles: the descriptors reads go through, O_DIRECT where the file system has it, and whether the files
// are still the ones that were opened.
#pragma once

#include <chrono>
#include <span>
#include <string>
#include <vector>

#include "runtime/core/file.h"
#include "runtime/core/result.h"

namespace moraine {

/// Used by one thread at a time; `files` outlive it.
class StreamFiles {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// kIo: no descriptor left, or a file is no longer the one that was opened.
  static Result<StreamFiles> Open(std::span<const File> files, bool direct,
                                  std::chrono::nanoseconds check_every);

  size_t size() const { return entries_.size(); }
  /// What to read `file` through, now.
  int fd(int32_t file) const;
  bool direct(int32_t file) const { return entry(file).use_direct; }
  const std::string& path(int32_t file) const { return files_[static_cast<size_t>(file)].path(); }
  /// Files are numbered by the device they lie on, from 0.
  const std::vector<int>& device_of() const { return device_of_; }

  /// Whether the file is the one opened: looks at most every `check_every`, unless `at_once`. A file that has
  /// changed stays so.
  Status Check(int32_t file, Time now, bool at_once);

  /// Reads of it go through the page cache from now on. A notice, once for all files, if there is none yet.
  void UseBuffered(int32_t file, const std::string& why);
  /// Set once the first file is read through the page cache against the wish.
  const std::string& notice() const { return notice_; }

 private:
  struct Entry {
    Handle<FdTraits> direct;  // stays open: reads under way may still name it
    bool use_direct = false;
    Time checked;
    bool changed = false;
    Error change;
  };
  StreamFiles() = default;
  const Entry& entry(int32_t file) const { return entries_[static_cast<size_t>(file)]; }

  std::span<const File> files_;
  std::chrono::nanoseconds check_every_{};
  std::vector<Entry> entries_;
  std::vector<int> device_of_;
  std::string notice_;
};

}  // namespace moraine
