// Any bytes as an answer with tags: however its text is cut, the same text and the same calls, each named
// once before its arguments.
//
// The first byte chooses the form and what the prompt has begun; then 0xF8 to 0xFC are the tags.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "runtime/text/tool_call_parser.h"

namespace {

using namespace moraine;

constexpr uint8_t kFirstTag = 0xF8;
constexpr uint8_t kTags = 5;

struct Parsed {
  std::string text;
  std::vector<std::pair<std::string, std::string>> calls;
  bool operator==(const Parsed&) const = default;
};

void Take(const ToolChunk& chunk, Parsed* parsed) {
  parsed->text += chunk.text;
  for (const ToolCallPiece& piece : chunk.calls) {
    if (!piece.name.empty()) {
      if (!IsToolName(piece.name)) std::abort();
      parsed->calls.emplace_back(piece.name, "");
    }
    if (static_cast<size_t>(piece.index) + 1 != parsed->calls.size()) std::abort();
    parsed->calls.back().second += piece.arguments;
  }
}

// `step` bytes of text at a time.
Parsed Parse(uint8_t choice, std::string_view answer, size_t step) {
  ToolCallParser parser(choice % 2 == 0 ? ToolCallForm::kFenced : ToolCallForm::kPlain);
  Parsed parsed;
  if (choice % 3 == 1) Take(parser.Begin(""), &parsed);
  if (choice % 3 == 2) Take(parser.Begin("f"), &parsed);
  for (size_t at = 0; at < answer.size();) {
    const auto tag = static_cast<uint8_t>(static_cast<uint8_t>(answer[at]) - kFirstTag);
    if (tag < kTags) {
      Take(parser.Tag(static_cast<ToolTag>(tag)), &parsed);
      ++at;
      continue;
    }
    size_t end = at;
    while (end < answer.size() && end - at < step &&
           static_cast<uint8_t>(static_cast<uint8_t>(answer[end]) - kFirstTag) >= kTags)
      ++end;
    Take(parser.Text(answer.substr(at, end - at)), &parsed);
    at = end;
  }
  Take(parser.Finish(), &parsed);
  if (static_cast<size_t>(parser.calls()) != parsed.calls.size() || parser.ended() > parser.calls())
    std::abort();
  return parsed;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view answer(reinterpret_cast<const char*>(data) + 1, size - 1);
  const Parsed whole = Parse(data[0], answer, size);
  if (Parse(data[0], answer, 1) != whole || Parse(data[0], answer, 1 + data[0] / 8) != whole) std::abort();
  return 0;
}
