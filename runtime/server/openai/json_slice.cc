#include "runtime/server/openai/json_slice.h"

#include <nlohmann/json.hpp>
#include <string>

namespace moraine {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

size_t SkipSpace(std::string_view text, size_t at) { return text.find_first_not_of(kSpace, at); }

// Behind the string that begins at `at`.
size_t SkipString(std::string_view text, size_t at) {
  for (++at; text[at] != '"'; ++at) at += text[at] == '\\' ? 1 : 0;
  return at + 1;
}

// Behind the value that begins at `at`.
size_t SkipValue(std::string_view text, size_t at) {
  if (text[at] == '"') return SkipString(text, at);
  if (text[at] != '{' && text[at] != '[') return std::min(text.find_first_of(",]} \t\r\n", at), text.size());
  int depth = 0;
  do {
    if (text[at] == '"') {
      at = SkipString(text, at);
      continue;
    }
    if (text[at] == '{' || text[at] == '[') ++depth;
    if (text[at] == '}' || text[at] == ']') --depth;
    ++at;
  } while (depth > 0);
  return at;
}

bool Spells(std::string_view key, std::string_view name) {
  if (key.find('\\') == key.npos) return key.substr(1, key.size() - 2) == name;
  return nlohmann::json::parse(key).get<std::string>() == name;
}

}  // namespace

std::optional<std::string_view> MemberText(std::string_view text, std::string_view name) {
  size_t at = SkipSpace(text, 0);
  if (text[at] != '{') return std::nullopt;
  at = SkipSpace(text, at + 1);
  while (text[at] != '}') {
    const size_t key_end = SkipString(text, at);
    const size_t value = SkipSpace(text, text.find(':', key_end) + 1);
    const size_t end = SkipValue(text, value);
    if (Spells(text.substr(at, key_end - at), name)) return text.substr(value, end - value);
    at = SkipSpace(text, end);
    if (text[at] == ',') at = SkipSpace(text, at + 1);
  }
  return std::nullopt;
}

std::vector<std::string_view> ElementTexts(std::string_view text) {
  std::vector<std::string_view> elements;
  size_t at = SkipSpace(text, 0);
  if (text[at] != '[') return elements;
  at = SkipSpace(text, at + 1);
  while (text[at] != ']') {
    const size_t end = SkipValue(text, at);
    elements.push_back(text.substr(at, end - at));
    at = SkipSpace(text, end);
    if (text[at] == ',') at = SkipSpace(text, at + 1);
  }
  return elements;
}

}  // namespace moraine
