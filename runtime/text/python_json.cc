#include "runtime/text/python_json.h"

#include <fmt/core.h>

#include <charconv>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <vector>

namespace moraine {
namespace {

using nlohmann::json;

constexpr size_t kMaxDepth = 64;

// The shortest digits that read back as `value`, laid out as Python's repr does: plain from 1e-4 to below
// 1e16, always with a point or an exponent.
std::string PythonFloat(double value) {
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  std::string text(buffer, end);
  const size_t e = text.find('e');
  const int exponent = std::atoi(text.c_str() + e + 1);
  if (exponent < -4 || exponent >= 16) return text;  // at least two exponent digits in both
  const auto fixed = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed).ptr;
  std::string plain(buffer, fixed);
  if (plain.find('.') == std::string::npos) plain += ".0";
  return plain;
}

// Writes while it reads, so the order of keys is kept.
class Dumper {
 public:
  using number_integer_t = json::number_integer_t;
  using number_unsigned_t = json::number_unsigned_t;
  using number_float_t = json::number_float_t;
  using string_t = json::string_t;
  using binary_t = json::binary_t;

  bool null() { return Put("null"); }
  bool boolean(bool value) { return Put(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) { return Put(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) { return Put(std::to_string(value)); }
  bool number_float(number_float_t value, const string_t& text) {
    // Whole numbers over 64 bits arrive here too; Python keeps every digit of them.
    const bool whole = text.find_first_not_of("-0123456789") == std::string::npos;
    return Put(whole ? text : PythonFloat(value));
  }
  bool string(string_t& value) { return Put(PythonQuote(value)); }
  bool binary(binary_t&) { return false; }

  bool start_object(std::size_t) { return Open('{'); }
  bool end_object() { return Close('}'); }
  bool start_array(std::size_t) { return Open('['); }
  bool end_array() { return Close(']'); }

  bool key(string_t& name) {
    Level& level = levels_.back();
    if (!level.keys.insert(name).second) return Refuse("a key appears twice");
    Separate();
    out_ += PythonQuote(name);
    out_ += ": ";
    level.after_key = true;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) {
    return Refuse(fmt::format("not JSON at byte {}", position));
  }

  std::string out_;
  std::string reason_;

 private:
  struct Level {
    bool empty = true;
    bool after_key = false;
    std::unordered_set<std::string> keys;
  };

  bool Refuse(std::string why) {
    reason_ = std::move(why);
    return false;
  }

  void Separate() {
    if (levels_.empty()) return;
    Level& level = levels_.back();
    if (level.after_key) {
      level.after_key = false;
      return;
    }
    if (!level.empty) out_ += ", ";
    level.empty = false;
  }

  bool Put(std::string_view text) {
    Separate();
    out_ += text;
    return true;
  }

  bool Open(char bracket) {
    if (levels_.size() >= kMaxDepth) return Refuse("nested too deep");
    Separate();
    out_ += bracket;
    levels_.emplace_back();
    return true;
  }

  bool Close(char bracket) {
    levels_.pop_back();
    out_ += bracket;
    return true;
  }

  std::vector<Level> levels_;
};

}  // namespace

std::string PythonQuote(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        } else {
          out += c;
        }
    }
  }
  return out + '"';
}

Result<std::string> PythonDumps(std::string_view text) {
  Dumper dumper;
  if (!json::sax_parse(text.begin(), text.end(), &dumper)) return Fail(ErrorKind::kModel, dumper.reason_);
  return std::move(dumper.out_);
}

}  // namespace moraine
