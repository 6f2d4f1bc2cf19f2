// StopStrings: ends a text at the first of several strings, wherever its pieces are cut.
#pragma once

#include <string>
#include <vector>

namespace moraine {

/// Text that could be the start of a stop string is held back until it is known. What comes out holds whole
/// code points if stops and pieces do. One thread.
class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  /// What of the text so far is certain; ends before the first stop string.
  std::string Push(const std::string& piece);
  /// The rest: no more pieces come.
  std::string Finish();
  /// One was met: what follows is not part of the text.
  bool met() const { return met_; }

 private:
  const std::vector<std::string> stops_;
  std::string held_;
  bool met_ = false;
};

}  // namespace moraine
