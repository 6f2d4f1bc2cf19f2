// runtime/grammar/matcher.h: which texts a grammar takes, case by case.
#include "runtime/grammar/matcher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runtime/grammar/json_schema.h"

namespace moraine {
namespace {

std::shared_ptr<const Grammar> Compile(const std::string& schema, bool strict = true) {
  auto grammar = CompileJsonSchema(nlohmann::ordered_json::parse(schema), {.strict = strict});
  EXPECT_TRUE(grammar.has_value()) << schema << ": " << grammar.error().message;
  return *grammar;
}

bool Accepts(const std::shared_ptr<const Grammar>& grammar, const std::string& text,
             std::string_view prefix = {}) {
  Matcher matcher(grammar, prefix);
  Configs now = matcher.Start();
  return matcher.Advance(text, &now) &&
         std::ranges::any_of(now, [&](const Config& config) { return matcher.MayEnd(config); });
}

bool Accepts(const std::string& schema, const std::string& text) { return Accepts(Compile(schema), text); }

TEST(Matcher, StringsAreUtf8WithWholeEscapes) {
  const std::string schema = R"({"type": "string"})";
  for (const char* text :
       {R"("")", R"("a b")", R"("\n\t\"\\\/\b\f\r")", R"("\u00e9\u0000")", R"("\ud83d\ude00")",
        R"("\uD7FF\uE000\uFFFF")", "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"", "\"\x7F\"",
        "\"\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF\""})
    EXPECT_TRUE(Accepts(schema, text)) << text;
  for (const char* text : {"\"",
                           "a",
                           "\"a",
                           "\"a\"b",
                           R"("\x")",
                           R"("\u00g0")",
                           R"("\ud83d")",
                           R"("\ud83dx")",
                           R"("\ud83d\n")",
                           R"("\ud83d\ud83d")",
                           R"("\ude00")",
                           "\"\n\"",
                           "\"\x80\"",
                           "\"\xC0\x80\"",
                           "\"\xE0\x80\x80\"",
                           "\"\xED\xA0\x80\"",
                           "\"\xF4\x90\x80\x80\"",
                           "\"\xF5\x80\x80\x80\"",
                           "\"\xC3\"",
                           "'a'"})
    EXPECT_FALSE(Accepts(schema, text)) << text;
}

TEST(Matcher, LengthsAreOfCodePoints) {
  const std::string schema = R"({"type": "string", "minLength": 2, "maxLength": 3})";
  for (const char* text :
       {R"("ab")", R"("abc")", "\"\xC3\xA9\xF0\x9F\x98\x80\"", R"("\ud83d\ude00\n\u0041")"})
    EXPECT_TRUE(Accepts(schema, text)) << text;
  for (const char* text : {R"("")", R"("a")", R"("\ud83d\ude00")", R"("abcd")", "\"\xC3\xA9\""})
    EXPECT_FALSE(Accepts(schema, text)) << text;
}

TEST(Matcher, NumbersAreJsonsAndBounded) {
  const std::string number = R"({"type": "number"})";
  for (const char* text :
       {"0", "-0", "7", "-12", "1.5", "0.001", "1e5", "1E+05", "1.25e-9", "9999999999999999999"})
    EXPECT_TRUE(Accepts(number, text)) << text;
  for (const char* text : {"", "-", "01", "+1", ".5", "1.", "1e", "1e+", "1.e5", "0x1", "1e100",
                           "12345678901234567890", "NaN", "1 2", "-01"})
    EXPECT_FALSE(Accepts(number, text)) << text;
  EXPECT_TRUE(Accepts(R"({"type": "integer"})", "-123"));
  EXPECT_FALSE(Accepts(R"({"type": "integer"})", "1.0"));
  EXPECT_FALSE(Accepts(R"({"type": "integer"})", "1e2"));
}

TEST(Matcher, MembersComeInOrderAndRequiredOnesAll) {
  const std::string schema =
      R"({"type": "object", "properties": {"z": {"type": "integer"}, "a": {"type": "null"},
      "ab": {"type": "boolean"}}, "required": ["z", "ab"], "additionalProperties": false})";
  for (const char* text :
       {R"({"z":1,"ab":true})", R"({"z":1,"a":null,"ab":true})", "{\n  \"z\": 1,\n  \"ab\": false\n}"})
    EXPECT_TRUE(Accepts(schema, text)) << text;
  for (const char* text :
       {"{}", R"({"z":1})", R"({"ab":true,"z":1})", R"({"z":1,"z":1,"ab":true})",
        R"({"z":1,"ab":true,"c":1})", R"({"z":1,"ab":true,})", R"({"z":1 "ab":true})",
        R"({"z":1,"a":null,"ab":true,"a":null})", R"({"\u007a":1,"ab":true})", R"({,"z":1,"ab":true})"})
    EXPECT_FALSE(Accepts(schema, text)) << text;
}

TEST(Matcher, OtherMembersHaveOtherNames) {
  const std::string schema = R"({"type": "object", "properties": {"name": {"type": "integer"}},
      "additionalProperties": {"type": "string"}})";
  for (const char* text :
       {"{}", R"({"name":1})", R"({"name":1,"x":"y"})", R"({"x":"y","nam":"","names":"z"})", R"({"":""})"})
    EXPECT_TRUE(Accepts(schema, text)) << text;
  for (const char* text : {R"({"name":"y"})", R"({"x":"y","name":1})", R"({"x":1})",
                           R"({"x":"y","name":"z"})", R"({"n\u0061me":"z"})"})
    EXPECT_FALSE(Accepts(schema, text)) << text;
}

TEST(Matcher, ObjectsThatDoNotSayAreOpenUnlessStrict) {
  const std::string schema = R"({"type": "object", "properties": {"a": true}})";
  EXPECT_TRUE(Accepts(Compile(schema, false), R"({"b": [1, {"c": null}]})"));
  EXPECT_FALSE(Accepts(Compile(schema, true), R"({"b": 1})"));
}

TEST(Matcher, ListsKeepTheirCounts) {
  const std::string schema =
      R"({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3})";
  for (const char* text : {"[1]", "[1,2]", "[ 1, 2,\n\t3 ]"}) EXPECT_TRUE(Accepts(schema, text)) << text;
  for (const char* text : {"[]", "[1,2,3,4]", "[1,]", "[,1]", "[1", "1", "[\"a\"]", "[[1]]"})
    EXPECT_FALSE(Accepts(schema, text)) << text;
}

TEST(Matcher, LiteralsAreOneOfThem) {
  const std::string schema = R"({"enum": ["a", "ab", 1, 12, 1.5, true, null, {"k": [1]}, "q\"q"]})";
  for (const char* text :
       {R"("a")", R"("ab")", "1", "12", "1.5", "true", "null", R"({"k":[1]})", R"("q\"q")"})
    EXPECT_TRUE(Accepts(schema, text)) << text;
  for (const char* text : {R"("abc")", R"("")", "2", "123", "1.", "tru", "false", R"({"k": [1]})"})
    EXPECT_FALSE(Accepts(schema, text)) << text;
  const std::string within = R"({"type": "array", "items": {"enum": [1, 12, 123]}})";
  EXPECT_TRUE(Accepts(within, "[1,12,123]"));
  EXPECT_FALSE(Accepts(within, "[1,1234]"));
  EXPECT_TRUE(Accepts(R"({"enum": ["a", 1], "type": "integer"})", "1"));
  EXPECT_FALSE(Accepts(R"({"enum": ["a", 1], "type": "integer"})", "\"a\""));
}

TEST(Matcher, BranchesAreFollowedTogether) {
  const std::string schema = R"({"anyOf": [
      {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]},
      {"type": "object", "properties": {"a": {"type": "number"}, "c": {"type": "integer"}}, "required": ["a", "c"]},
      {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "number"}]}}]})";
  for (const char* text : {R"({"a":1,"b":2})", R"({"a":1,"c":2})", R"({"a":1.5,"c":2})", "[1,1.5]"})
    EXPECT_TRUE(Accepts(schema, text)) << text;
  EXPECT_FALSE(Accepts(schema, R"({"a":1.5,"b":2})"));
}

TEST(Matcher, RecursionEndsWithTheLevels) {
  const auto list =
      Compile(R"({"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
      "required": ["next"]})");
  const auto nested = [](int levels) {
    std::string text = "null";
    for (int i = 0; i < levels; ++i) text = "{\"next\":" + text + "}";
    return text;
  };
  EXPECT_TRUE(Accepts(list, nested(1)));
  EXPECT_TRUE(Accepts(list, nested(kMostLevels)));
  EXPECT_FALSE(Accepts(list, nested(kMostLevels + 1)));
  EXPECT_FALSE(Accepts(AnyObjectGrammar(),
                       "{\"a\":" + std::string(kMostLevels, '[') + std::string(kMostLevels, ']') + "}"));
}

TEST(Matcher, AnyObjectIsAnyObject) {
  const auto any = AnyObjectGrammar();
  for (const char* text : {"{}", " {\"a\\n\\u00e9\": [1, true, {\"b\": null}, \"\"], \"c\": {}}", "\n\n{\n}"})
    EXPECT_TRUE(Accepts(any, text)) << text;
  for (const char* text : {"[]", "1", "\"a\"", "{\"a\"}", "{\"a\":}", "{} ", "{a:1}", "{\"a\":1}}"})
    EXPECT_FALSE(Accepts(any, text)) << text;
}

TEST(Matcher, WhiteSpaceIsAsFormattersWriteIt) {
  const auto any = AnyObjectGrammar();
  for (const char* text : {"\n\n{}", " {}", "{ }", "{\n}", "{\n    \"a\": [\n        1,\n        2\n    ]\n}",
                           "{\n\t\"a\": {\n\t\t\"b\": 1\n\t}\n}", "{ \"a\": [ 1, 2 ] }"})
    EXPECT_TRUE(Accepts(any, text)) << text;
  for (const char* text : {"\n\n\n{}", "  {}", "\t{}", "{  }", "{\n\n}", "{\n     }", "{\"a\" : 1}",
                           "{\"a\":\n1}", "{\"a\": 1 , \"b\": 2}", "{\"a\":  1}", "{\"a\": 1\r\n}", "{ \n}"})
    EXPECT_FALSE(Accepts(any, text)) << text;
}

TEST(Matcher, APrefixComesFirst) {
  const auto number = Compile(R"({"type": "integer"})");
  EXPECT_TRUE(Accepts(number, "```json\n12", "```json\n"));
  EXPECT_FALSE(Accepts(number, "12", "```json\n"));
}

}  // namespace
}  // namespace moraine
