#include "runtime/core/json_member.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

namespace moraine {
namespace {

using nlohmann::ordered_json;

// Follows the path, then builds what lies there; every handler returns false once nothing more is wanted.
class MemberReader {
 public:
  using number_integer_t = ordered_json::number_integer_t;
  using number_unsigned_t = ordered_json::number_unsigned_t;
  using number_float_t = ordered_json::number_float_t;
  using string_t = ordered_json::string_t;
  using binary_t = ordered_json::binary_t;

  MemberReader(const std::vector<std::string_view>& path, const JsonMemberLimits& limits)
      : path_(path), limits_(limits) {}

  bool null() { return Value(nullptr); }
  bool boolean(bool value) { return Value(value); }
  bool number_integer(number_integer_t value) { return Value(value); }
  bool number_unsigned(number_unsigned_t value) { return Value(value); }
  bool number_float(number_float_t value, const string_t&) { return Value(value); }
  bool string(string_t& value) {
    bytes_ += Wanted() ? value.size() : 0;
    return Value(std::move(value));
  }
  bool binary(binary_t&) { return false; }

  bool start_object(std::size_t) { return Open(ordered_json::object()); }
  bool end_object() { return Close(); }
  bool start_array(std::size_t) { return Open(ordered_json::array()); }
  bool end_array() { return Close(); }

  bool key(string_t& name) {
    if (!open_.empty()) {
      bytes_ += name.size();
      open_.back().name = std::move(name);
    } else {
      on_path_ = depth_ == matched_ + 1 && name == path_[matched_];
    }
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) { return false; }

  bool over() const { return values_ > limits_.max_values || bytes_ > limits_.max_bytes; }
  ordered_json Take() { return std::move(found_); }

 private:
  struct Level {
    ordered_json value;
    std::string name;  // of an object's member that comes next
  };

  // Whether what comes is the value looked for, or part of it.
  bool Wanted() const { return !open_.empty() || (on_path_ && matched_ + 1 == path_.size()); }

  template <typename T>
  bool Value(T&& value) {
    if (!Wanted()) {
      on_path_ = false;
      return true;
    }
    ++values_;
    return Put(ordered_json(std::forward<T>(value)));
  }

  bool Open(ordered_json empty) {
    if (Wanted()) {
      ++values_;
      open_.push_back({std::move(empty), {}});
      return !over();
    }
    ++depth_;
    // A member of an array, or of an object that is not on the path, is deeper than what is matched.
    if (std::exchange(on_path_, false) && empty.is_object()) ++matched_;
    return true;
  }

  bool Close() {
    if (open_.empty()) return --depth_ > matched_;  // the object on the path has ended without the member
    ordered_json done = std::move(open_.back().value);
    open_.pop_back();
    return Put(std::move(done));
  }

  bool Put(ordered_json value) {
    if (over()) return false;
    if (open_.empty()) {
      found_ = std::move(value);
      return false;
    }
    Level& level = open_.back();
    if (level.value.is_array()) {
      level.value.push_back(std::move(value));
    } else {
      // No name comes twice, so none is looked for.
      level.value.get_ref<ordered_json::object_t&>().emplace_back(std::move(level.name), std::move(value));
    }
    return true;
  }

  const std::vector<std::string_view>& path_;
  const JsonMemberLimits limits_;
  std::size_t depth_ = 0;    // containers open around the value looked for
  std::size_t matched_ = 0;  // names of the path gone down
  bool on_path_ = false;     // the value that comes is the path's next
  std::size_t values_ = 0;
  std::size_t bytes_ = 0;
  std::vector<Level> open_;
  ordered_json found_;
};

}  // namespace

Result<ordered_json> ReadOrderedMember(std::string_view text, const std::vector<std::string_view>& path,
                                       const JsonMemberLimits& limits) {
  MemberReader reader(path, limits);
  ordered_json::sax_parse(text.begin(), text.end(), &reader);
  if (!reader.over()) return reader.Take();
  std::string name;
  for (const std::string_view part : path) name += fmt::format("{}{}", name.empty() ? "" : ".", part);
  return Fail(ErrorKind::kUsage, fmt::format("{} has more than {} values or {} bytes of text", name,
                                             limits.max_values, limits.max_bytes));
}

}  // namespace moraine
