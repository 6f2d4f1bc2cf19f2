// runtime/grammar/grammar_mask.h over a small vocabulary.
#include "runtime/grammar/grammar_mask.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/grammar/json_schema.h"
#include "tests/grammar/test_vocabulary.h"

namespace moraine::test {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<const Grammar> Compile(const std::string& schema) {
  return CompileJsonSchema(nlohmann::ordered_json::parse(schema), {.strict = true}).value();
}

class GrammarMaskTest : public ::testing::Test {
 protected:
  bool Allows(TokenMask& mask, std::string_view piece) {
    return vocabulary_.Allows(mask.Allowed(), vocabulary_.Id(piece));
  }
  bool AllowsEnd(TokenMask& mask) { return vocabulary_.Allows(mask.Allowed(), vocabulary_.end); }
  bool Accept(TokenMask& mask, std::string_view piece) { return mask.Accept(vocabulary_.Id(piece)); }

  const TestVocabulary vocabulary_;
};

TEST_F(GrammarMaskTest, GoesFromTokenToToken) {
  GrammarMask mask(
      Compile(R"({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]})"),
      vocabulary_.table.get());
  EXPECT_TRUE(Allows(mask, "{\"") && Allows(mask, "{") && Allows(mask, "\n"));
  EXPECT_FALSE(Allows(mask, "\n  ") || Allows(mask, "{}") || Allows(mask, "[") || Allows(mask, "hello") ||
               AllowsEnd(mask));
  EXPECT_TRUE(Accept(mask, "{\""));
  EXPECT_TRUE(Allows(mask, "name") && Allows(mask, "na") && Allows(mask, "n"));
  EXPECT_FALSE(Allows(mask, "kind") || Allows(mask, "\""));
  EXPECT_TRUE(Accept(mask, "na"));
  EXPECT_TRUE(Accept(mask, "me\":"));
  EXPECT_TRUE(Accept(mask, "\""));
  EXPECT_TRUE(Allows(mask, "hello") && Allows(mask, "a\xF0\x9F") && Allows(mask, "\\ud83d\\u"));
  EXPECT_FALSE(Allows(mask, "\n  ") || Allows(mask, "\xA9") || AllowsEnd(mask));
  EXPECT_TRUE(Accept(mask, "a\xF0\x9F"));
  EXPECT_TRUE(Allows(mask, "\x98\x80"));
  EXPECT_FALSE(Allows(mask, "hello") || Allows(mask, "\""));
  EXPECT_TRUE(Accept(mask, "\x98\x80"));
  EXPECT_FALSE(Accept(mask, "\"}")) << "the object is whole";
}

TEST_F(GrammarMaskTest, ANumberEndsWhereItMay) {
  GrammarMask mask(Compile(R"({"type": "number"})"), vocabulary_.table.get());
  EXPECT_TRUE(Accept(mask, "12"));
  EXPECT_TRUE(AllowsEnd(mask) && Allows(mask, "345"));
  EXPECT_TRUE(Accept(mask, "."));
  EXPECT_FALSE(AllowsEnd(mask));
  EXPECT_TRUE(Accept(mask, "5"));
  EXPECT_FALSE(mask.Accept(vocabulary_.end));
}

TEST_F(GrammarMaskTest, WhatCannotGoOnIsOverWithoutAnEnd) {
  GrammarMask number(Compile(R"({"type": "integer"})"), vocabulary_.table.get());
  for (int i = 0; i < 9; ++i) EXPECT_TRUE(Accept(number, "12"));
  EXPECT_FALSE(Accept(number, "1")) << "19 digits are the most";
  GrammarMask literal(Compile(R"({"enum": [1, 12]})"), vocabulary_.table.get());
  EXPECT_TRUE(Accept(literal, "1"));
  EXPECT_TRUE(AllowsEnd(literal));
  EXPECT_FALSE(Accept(literal, "2"));
}

TEST_F(GrammarMaskTest, WhatStandsForNoTextIsNeverAllowed) {
  GrammarMask mask(AnyObjectGrammar(), vocabulary_.table.get());
  EXPECT_TRUE(Accept(mask, "{\""));
  const auto allowed = mask.Allowed();
  EXPECT_FALSE(vocabulary_.Allows(allowed, vocabulary_.special));
  for (auto id = static_cast<int32_t>(vocabulary_.pieces.size()); id < vocabulary_.ids; ++id)
    EXPECT_FALSE(vocabulary_.Allows(allowed, id));
}

TEST_F(GrammarMaskTest, PlainTokensEndWithTheString) {
  GrammarMask mask(Compile(R"({"type": "string", "maxLength": 6})"), vocabulary_.table.get());
  EXPECT_TRUE(Accept(mask, "\""));
  EXPECT_TRUE(Allows(mask, " world") && Allows(mask, "hello"));
  EXPECT_FALSE(Allows(mask, "hello world hello world hello world"));
  EXPECT_TRUE(Accept(mask, "hello"));
  EXPECT_FALSE(Allows(mask, " world") || Allows(mask, "ab"));
  EXPECT_TRUE(Allows(mask, "a") && Allows(mask, "a\""));
  EXPECT_TRUE(Accept(mask, "a"));
  EXPECT_TRUE(Allows(mask, "\""));
  EXPECT_FALSE(Allows(mask, "a"));
}

TEST_F(GrammarMaskTest, BeginsBehindItsToken) {
  auto inner = std::make_unique<GrammarMask>(AnyObjectGrammar(), vocabulary_.table.get());
  MaskAfter mask(vocabulary_.special, *vocabulary_.table, std::move(inner));
  EXPECT_TRUE(Allows(mask, "hello") && vocabulary_.Allows(mask.Allowed(), vocabulary_.special));
  EXPECT_FALSE(AllowsEnd(mask)) << "there would be no answer";
  EXPECT_TRUE(Accept(mask, "hello"));
  EXPECT_TRUE(mask.Accept(vocabulary_.special));
  EXPECT_FALSE(Allows(mask, "hello"));
  EXPECT_TRUE(Accept(mask, "{"));
  EXPECT_FALSE(Accept(mask, "}"));
}

TEST_F(GrammarMaskTest, AVocabularyWithoutAByteIsRefused) {
  std::vector<std::string_view> pieces(vocabulary_.pieces.begin(), vocabulary_.pieces.end());
  pieces['{'] = "";
  const auto table = TokenTable::Make(pieces, vocabulary_.ids, {});
  ASSERT_FALSE(table.has_value());
  EXPECT_THAT(table.error().message, HasSubstr("0x7B"));
}

// What every node must have is two levels high, so the last ones hold no children.
TEST_F(GrammarMaskTest, TheDeepestTextCanStillEnd) {
  const auto grammar = Compile(R"({"type": "object", "properties": {
      "kids": {"type": "array", "items": {"$ref": "#"}},
      "leaf": {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}, "minItems": 1}},
               "required": ["a"]}}, "required": ["leaf"]})");
  GrammarMask mask(grammar, vocabulary_.table.get());
  std::string text;
  for (bool open = true; open;) {
    const auto allowed = mask.Allowed();
    const std::string order = "{[\"kids:leaf1}],";
    const auto best = std::ranges::find_if(
        order, [&](char c) { return vocabulary_.Allows(allowed, static_cast<uint8_t>(c)); });
    ASSERT_NE(best, order.end()) << text;
    text += *best;
    open = mask.Accept(static_cast<uint8_t>(*best));
  }
  const auto document = nlohmann::json::parse(text, nullptr, false);
  ASSERT_FALSE(document.is_discarded()) << text;
  EXPECT_EQ(std::ranges::count(text, 'k'), (kMostLevels - 2) / 2) << text;
}

// Two ways that never part would double with every bracket if they were not one.
TEST_F(GrammarMaskTest, ManyWaysStayFew) {
  const auto grammar = Compile(R"({"$ref": "#/$defs/v", "$defs": {"v": {"anyOf": [
      {"type": "array", "items": {"$ref": "#/$defs/v"}},
      {"type": "array", "items": {"$ref": "#/$defs/v"}, "maxItems": 5},
      {"type": "array", "items": {"$ref": "#/$defs/v"}, "maxItems": 6}, {"type": "integer"}, {"type": "number"}]}}})");
  GrammarMask mask(grammar, vocabulary_.table.get());
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(Allows(mask, "[[[[[["));
    ASSERT_TRUE(Accept(mask, "[[[[[["));
  }
  ASSERT_TRUE(Accept(mask, "1"));
  for (int i = 0; i < 30; ++i) {
    ASSERT_TRUE(Allows(mask, "]"));
    EXPECT_EQ(Accept(mask, "]"), i < 29);
  }
}

}  // namespace
}  // namespace moraine::test
