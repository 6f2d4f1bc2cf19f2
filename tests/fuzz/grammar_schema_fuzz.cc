// Any bytes as a JSON schema: a refusal that names a place, or a grammar from which every way leads to an
// end, through JSON alone.
//
// The first byte is the number of bytes behind it that say what is chosen, the last bit of the second whether
// objects are closed; the rest is the schema.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "runtime/core/json_guard.h"
#include "runtime/core/ordered_json.h"
#include "runtime/grammar/json_schema.h"
#include "runtime/grammar/matcher.h"

namespace {

using namespace moraine;

constexpr size_t kMostSteps = 4000;

void Require(bool condition) {
  if (!condition) std::abort();
}

// The bytes that may come.
std::string Allowed(Matcher& matcher, const Configs& now) {
  std::string allowed;
  Configs next;
  for (int byte = 0; byte < 256; ++byte) {
    matcher.Step(now, static_cast<uint8_t>(byte), &next);
    if (!next.empty()) allowed.push_back(static_cast<char>(byte));
  }
  return allowed;
}

bool MayEnd(const Matcher& matcher, const Configs& now) {
  return std::any_of(now.begin(), now.end(), [&](const Config& config) { return matcher.MayEnd(config); });
}

// No byte that is allowed leads to where nothing is.
void LookAhead(Matcher& matcher, const Configs& now, const std::string& allowed) {
  for (const char byte : {' ', '\n', ',', ':', '"', '{', '[', '\\', '-', '.'}) {
    if (allowed.find(byte) == allowed.npos) continue;
    Configs next;
    matcher.Step(now, static_cast<uint8_t>(byte), &next);
    Require(MayEnd(matcher, next) || !Allowed(matcher, next).empty());
  }
}

// Follows the matcher by the chooser's bytes, then along whatever closes.
void Walk(const std::shared_ptr<const Grammar>& grammar, std::string_view choices) {
  Matcher matcher(grammar);
  Configs now = matcher.Start();
  std::string text;
  for (size_t step = 0; step < kMostSteps; ++step) {
    const std::string allowed = Allowed(matcher, now);
    const bool may_end = MayEnd(matcher, now);
    if (may_end) Require(nlohmann::json::accept(text));
    Require(may_end || !allowed.empty());
    if (allowed.empty() || (may_end && step >= choices.size())) return;
    LookAhead(matcher, now, allowed);
    char byte = allowed[0];
    if (step < choices.size()) {
      byte = allowed[static_cast<uint8_t>(choices[step]) % allowed.size()];
    } else {
      for (const char closing : {':', ']', '}', '"'}) {
        if (allowed.find(closing) != allowed.npos) byte = closing;
      }
    }
    text.push_back(byte);
    Require(matcher.Advance({&byte, 1}, &now));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::string_view choices = input.substr(2, data[0]);
  const std::string schema(input.substr(2 + choices.size()));
  if (!ParseJson(schema, "the schema").has_value()) return 0;
  const auto read = ParseOrderedJson(schema, "the schema");
  if (!read.has_value()) return 0;
  const auto grammar = CompileJsonSchema(*read, {.strict = (data[1] & 1) != 0});
  if (!grammar.has_value()) {
    Require(grammar.error().kind == ErrorKind::kUsage && grammar.error().message.size() < 2048);
    Require(grammar.error().message.find("at ") == 0);
    return 0;
  }
  Walk(*grammar, choices);
  return 0;
}
