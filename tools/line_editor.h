// LineEditor: the next line a user types, with editing and the lines before at the arrow keys; or the next
// line of what is piped in.
#pragma once

#include <memory>
#include <string>

namespace moraine::tools {

/// Edits where both stdin and stderr are terminals (the prompt goes to stderr, so that stdout stays the
/// answers'); else reads lines as they are and shows no prompt. Follows the user's ~/.editrc. Earlier lines
/// are kept in memory only. One at a time in a process.
class LineEditor {
 public:
  enum class Outcome { kLine, kEnd, kInterrupted };

  LineEditor();
  ~LineEditor();

  bool terminal() const { return edit_ != nullptr; }
  /// The next line without its newline. kEnd: end of input, or Ctrl-D on an empty line; kInterrupted: Ctrl-C,
  /// and what had been typed is dropped.
  Outcome Read(const std::string& prompt, std::string* line);

 private:
  struct Edit;
  std::unique_ptr<Edit> edit_;
};

}  // namespace moraine::tools
