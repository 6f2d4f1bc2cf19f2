// runtime/grammar over random schemas: what a mask lets through is right, and what is right it lets through.
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <nlohmann/json.hpp>

#include "runtime/grammar/grammar_mask.h"
#include "runtime/grammar/json_schema.h"
#include "tests/grammar/random_schema.h"
#include "tests/grammar/schema_validator.h"
#include "tests/grammar/test_vocabulary.h"

namespace moraine::test {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

const TestVocabulary& Vocabulary() {
  static const TestVocabulary vocabulary;
  return vocabulary;
}

struct Case {
  ordered_json schema;
  bool strict = false;
  std::shared_ptr<const Grammar> grammar;
  Random random;
};

// Shrinking a seed says nothing, so a failure shows the schema.
Case RandomCase() {
  Case made;
  made.random.seed(*rc::gen::noShrink(rc::gen::arbitrary<uint64_t>()));
  made.schema = RandomSchema(&made.random);
  made.strict = Pick(&made.random, 2) == 0;
  RC_LOG() << made.schema.dump() << (made.strict ? " strict" : "") << "\n";
  auto grammar = CompileJsonSchema(made.schema, {.strict = made.strict});
  if (!grammar.has_value()) RC_LOG() << grammar.error().message;
  RC_ASSERT(grammar.has_value());
  made.grammar = *grammar;
  return made;
}

std::vector<int32_t> AllowedTokens(std::span<const uint64_t> mask) {
  std::vector<int32_t> ids;
  for (int32_t id = 0; id < static_cast<int32_t>(mask.size() * 64); ++id) {
    if (Vocabulary().Allows(mask, id)) ids.push_back(id);
  }
  return ids;
}

// At first anything, then what closes.
int32_t Choose(std::span<const uint64_t> mask, bool closing, Random* random) {
  const TestVocabulary& v = Vocabulary();
  if (closing) {
    if (v.Allows(mask, v.end)) return v.end;
    for (const char* piece : {"\"", "}", "]", ":"}) {
      if (v.Allows(mask, v.Id(piece))) return v.Id(piece);
    }
  }
  const auto ids = AllowedTokens(mask);
  RC_ASSERT(!ids.empty());
  return ids[Pick(random, ids.size())];
}

RC_GTEST_PROP(GrammarMask, EveryWalkEndsInADocumentOfTheSchema, ()) {
  Case c = RandomCase();
  const TestVocabulary& v = Vocabulary();
  GrammarMask mask(c.grammar, v.table.get());
  std::string text;
  const size_t free = Pick(&c.random, 120);
  for (size_t step = 0;; ++step) {
    RC_ASSERT(step < 20000u);
    const int32_t id = Choose(mask.Allowed(), step >= free, &c.random);
    RC_ASSERT(id != v.special && id <= v.end);
    text += v.pieces[static_cast<size_t>(id)];
    if (!mask.Accept(id)) break;
  }
  RC_LOG() << text << "\n";
  const json document = json::parse(text, nullptr, false);
  RC_ASSERT(!document.is_discarded());
  RC_ASSERT(Validates(c.schema, c.schema, document, c.strict));
}

RC_GTEST_PROP(GrammarMask, EveryDocumentOfTheSchemaIsLetThrough, ()) {
  Case c = RandomCase();
  const TestVocabulary& v = Vocabulary();
  const ordered_json document = RandomDocument(c.schema, c.schema, c.strict, &c.random);
  const int indent = static_cast<int>(Pick(&c.random, 4)) - 1;
  // Names and literals are spelled without escapes that need not be.
  const std::string text = document.dump(indent);
  RC_LOG() << text << "\n";
  RC_ASSERT(Validates(c.schema, c.schema, json::parse(text), c.strict));
  GrammarMask mask(c.grammar, v.table.get());
  bool open = true;
  for (size_t at = 0; at < text.size();) {
    RC_ASSERT(open);
    std::vector<int32_t> begins;
    for (size_t id = 0; id < v.pieces.size(); ++id) {
      if (!v.pieces[id].empty() && std::string_view(text).substr(at).starts_with(v.pieces[id]))
        begins.push_back(static_cast<int32_t>(id));
    }
    const int32_t id = begins[Pick(&c.random, begins.size())];
    RC_LOG() << "|" << v.pieces[static_cast<size_t>(id)];
    RC_ASSERT(v.Allows(mask.Allowed(), id));
    open = mask.Accept(id);
    at += v.pieces[static_cast<size_t>(id)].size();
  }
  RC_ASSERT(!open || v.Allows(mask.Allowed(), v.end));
}

RC_GTEST_PROP(GrammarMask, AllowsATokenExactlyIfItsBytesGoOn, ()) {
  Case c = RandomCase();
  const TestVocabulary& v = Vocabulary();
  GrammarMask mask(c.grammar, v.table.get());
  Matcher matcher(c.grammar);
  Configs now = matcher.Start();
  for (int step = 0; step < 40; ++step) {
    const auto allowed = mask.Allowed();
    for (size_t id = 0; id < v.pieces.size(); ++id) {
      Configs next = now;
      const bool goes_on = !v.pieces[id].empty() && matcher.Advance(v.pieces[id], &next);
      const bool ends =
          static_cast<int32_t>(id) == v.end &&
          std::ranges::any_of(now, [&](const Config& config) { return matcher.MayEnd(config); });
      RC_ASSERT(v.Allows(allowed, static_cast<int32_t>(id)) == (goes_on || ends));
    }
    const int32_t id = Choose(allowed, false, &c.random);
    if (!mask.Accept(id)) break;
    RC_ASSERT(matcher.Advance(v.pieces[static_cast<size_t>(id)], &now));
  }
}

// Whether the whole of `text` is let through.
bool Accepts(const std::shared_ptr<const Grammar>& grammar, const std::string& text) {
  Matcher matcher(grammar);
  Configs now = matcher.Start();
  return matcher.Advance(text, &now) &&
         std::ranges::any_of(now, [&](const Config& config) { return matcher.MayEnd(config); });
}

RC_GTEST_PROP(Matcher, AcceptsNoWrongDocument, ()) {
  Case c = RandomCase();
  std::string text = RandomDocument(c.schema, c.schema, c.strict, &c.random).dump();
  RC_ASSERT(Accepts(c.grammar, text));
  static const std::string kBytes = "\"\\{}[]:,0-.e1atnu x\n\xC3\xA9\x80";
  for (int i = 0; i < 50; ++i) {
    std::string wrong = text;
    for (size_t changes = 1 + Pick(&c.random, 2); changes-- > 0;) {
      const size_t at = Pick(&c.random, wrong.size() + 1);
      const char byte = kBytes[Pick(&c.random, kBytes.size())];
      switch (Pick(&c.random, 3)) {
        case 0:
          wrong.insert(at, 1, byte);
          break;
        case 1:
          if (at < wrong.size()) wrong.erase(at, 1);
          break;
        default:
          if (at < wrong.size()) wrong[at] = byte;
      }
    }
    if (!Accepts(c.grammar, wrong)) continue;
    RC_LOG() << wrong << "\n";
    const json document = json::parse(wrong, nullptr, false);
    RC_ASSERT(!document.is_discarded());
    RC_ASSERT(Validates(c.schema, c.schema, document, c.strict));
  }
}

}  // namespace
}  // namespace moraine::test
