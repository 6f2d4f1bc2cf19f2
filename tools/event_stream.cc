#include "tools/event_stream.h"

#include <utility>

namespace moraine::tools {

void EventStream::Push(std::string_view bytes, const std::function<void(const std::string&)>& on_data) {
  for (size_t end; (end = bytes.find('\n')) != bytes.npos; bytes.remove_prefix(end + 1)) {
    line_ += bytes.substr(0, end);
    Line(std::exchange(line_, {}), on_data);
  }
  line_ += bytes;
}

void EventStream::Line(std::string_view line, const std::function<void(const std::string&)>& on_data) {
  constexpr std::string_view kData = "data:";
  if (line.ends_with('\r')) line.remove_suffix(1);
  if (line.empty()) {
    if (std::exchange(has_data_, false)) on_data(std::exchange(data_, {}));
    return;
  }
  if (!line.starts_with(kData)) return;
  line.remove_prefix(kData.size());
  if (line.starts_with(' ')) line.remove_prefix(1);
  if (std::exchange(has_data_, true)) data_ += '\n';
  data_ += line;
}

}  // namespace moraine::tools
