// EventStream: server-sent events, from bytes that come in any pieces.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace moraine::tools {

/// Knows `data:` only: comment lines and other fields are skipped, as are carriage returns at line ends.
class EventStream {
 public:
  /// `on_data` hears the data of each event that `bytes` completes; several data lines are joined by
  /// newlines.
  void Push(std::string_view bytes, const std::function<void(const std::string&)>& on_data);

 private:
  void Line(std::string_view line, const std::function<void(const std::string&)>& on_data);

  std::string line_;  // begun
  std::string data_;  // of the event under way
  bool has_data_ = false;
};

}  // namespace moraine::tools
