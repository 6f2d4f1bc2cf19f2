#include "runtime/core/ordered_json.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace moraine {
namespace {

using nlohmann::ordered_json;

// Every handler returns false once nothing more is wanted.
class Builder {
 public:
  using number_integer_t = ordered_json::number_integer_t;
  using number_unsigned_t = ordered_json::number_unsigned_t;
  using number_float_t = ordered_json::number_float_t;
  using string_t = ordered_json::string_t;
  using binary_t = ordered_json::binary_t;

  explicit Builder(const OrderedJsonLimits& limits) : limits_(limits) {}

  bool null() { return Value(nullptr); }
  bool boolean(bool value) { return Value(value); }
  bool number_integer(number_integer_t value) { return Value(value); }
  bool number_unsigned(number_unsigned_t value) { return Value(value); }
  bool number_float(number_float_t value, const string_t&) { return Value(value); }
  bool string(string_t& value) {
    bytes_ += value.size();
    return Value(std::move(value));
  }
  bool binary(binary_t&) { return false; }

  bool start_object(std::size_t) { return Open(ordered_json::object()); }
  bool end_object() { return Close(); }
  bool start_array(std::size_t) { return Open(ordered_json::array()); }
  bool end_array() { return Close(); }

  bool key(string_t& name) {
    bytes_ += name.size();
    open_.back().name = std::move(name);
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) { return false; }

  bool over() const { return values_ > limits_.max_values || bytes_ > limits_.max_bytes; }
  ordered_json Take() { return std::move(done_); }

 private:
  struct Level {
    ordered_json value;
    std::string name;  // of an object's member that comes next
  };

  template <typename T>
  bool Value(T&& value) {
    ++values_;
    return Put(ordered_json(std::forward<T>(value)));
  }

  bool Open(ordered_json empty) {
    ++values_;
    open_.push_back({std::move(empty), {}});
    return !over();
  }

  bool Close() {
    ordered_json done = std::move(open_.back().value);
    open_.pop_back();
    return Put(std::move(done));
  }

  bool Put(ordered_json value) {
    if (over()) return false;
    if (open_.empty()) {
      done_ = std::move(value);
      return true;
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

  const OrderedJsonLimits limits_;
  std::size_t values_ = 0;
  std::size_t bytes_ = 0;
  std::vector<Level> open_;
  ordered_json done_;
};

}  // namespace

Result<ordered_json> ParseOrderedJson(std::string_view text, std::string_view what,
                                      const OrderedJsonLimits& limits) {
  Builder builder(limits);
  ordered_json::sax_parse(text.begin(), text.end(), &builder);
  if (!builder.over()) return builder.Take();
  return Fail(ErrorKind::kUsage, fmt::format("{} has more than {} values or {} bytes of text", what,
                                             limits.max_values, limits.max_bytes));
}

}  // namespace moraine
