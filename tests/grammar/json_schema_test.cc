// runtime/grammar/json_schema.h: what is refused, and the words of it.
#include "runtime/grammar/json_schema.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace moraine {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string Refusal(const std::string& schema, bool strict = true) {
  const auto grammar = CompileJsonSchema(nlohmann::ordered_json::parse(schema), {.strict = strict});
  if (grammar.has_value()) return "";
  EXPECT_EQ(grammar.error().kind, ErrorKind::kUsage);
  return grammar.error().message;
}

TEST(JsonSchema, WhatItCannotKeepIsNamedWithItsPlace) {
  for (const char* keyword :
       {"pattern", "format", "minimum", "maximum", "exclusiveMinimum", "multipleOf", "uniqueItems",
        "prefixItems", "patternProperties", "minProperties", "propertyNames", "dependentRequired", "allOf",
        "not", "if", "contains", "unevaluatedProperties", "$dynamicRef", "madeUp"}) {
    const std::string schema = fmt::format(
        R"({{"type": "object", "properties": {{"a/b~": {{"type": "array", "items": {{"type": "string", "{}": 1}}}}}}}})",
        keyword);
    EXPECT_THAT(Refusal(schema), AllOf(HasSubstr("at /properties/a~1b~0/items: "), HasSubstr(keyword)));
  }
}

TEST(JsonSchema, WrongSchemasAreNamedToo) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"([])", "at the root: a schema is"},
      {R"({"type": "strin"})", "neither one of the seven types"},
      {R"({"type": []})", "empty list"},
      {R"({"type": "string", "minLength": -1})", "\"minLength\" is no whole number"},
      {R"({"type": "string", "maxLength": 1e9})", "\"maxLength\" is no whole number"},
      {R"({"type": "array", "minItems": 100001})", "\"minItems\""},
      {R"({"properties": {}})", "\"properties\" says nothing without a \"type\""},
      {R"({"type": "object", "properties": []})", "\"properties\" is no object"},
      {R"({"type": "object", "properties": {"a\"b": true}})", "at /properties/a\"b: a name with a quote"},
      {R"({"type": "object", "required": "a"})", "\"required\" is no list"},
      {R"({"type": "object", "required": ["a"]})", "names \"a\", which \"properties\" has not"},
      {R"({"anyOf": []})", "\"anyOf\" is no list of 1 to 64"},
      {R"({"anyOf": [true], "type": "object"})", "\"type\" is not among"},
      {R"({"$ref": "#/$defs/no"})", "leads to nothing"},
      {R"({"$ref": "http://x/y"})", "leads to nothing"},
      {R"({"$ref": 1})", "leads to nothing"},
      {R"({"$ref": "#"})", "no text of at most 32"},
      {R"(false)", "no text of at most 32"},
      {R"({"enum": []})", "\"enum\" has no value that is allowed"},
      {R"({"const": 1, "type": "string"})", "\"const\" has no value that is allowed"},
      {R"({"const": 1, "minLength": 2})", "\"minLength\""},
      {R"({"type": "string", "minLength": 3, "maxLength": 2})", "no text"},
      {R"({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]})", "no text"},
      {R"({"type": "array", "items": {"$ref": "#"}, "minItems": 1})", "no text"}};
  for (const auto& [schema, words] : cases) EXPECT_THAT(Refusal(schema), HasSubstr(words)) << schema;
}

TEST(JsonSchema, OneOfNeedsBranchesThatDiffer) {
  const auto one_of = [](const std::string& a, const std::string& b) {
    return Refusal(R"({"oneOf": [)" + a + "," + b + "]}");
  };
  const auto object = [](const std::string& properties, const std::string& required) {
    return fmt::format(R"({{"type": "object", "properties": {{{}}}, "required": [{}]}})", properties,
                       required);
  };
  EXPECT_EQ(one_of(R"({"type": "string"})", R"({"type": ["integer", "null"]})"), "");
  EXPECT_EQ(one_of(R"({"enum": ["a", 1]})", R"({"enum": ["b", 2]})"), "");
  EXPECT_EQ(one_of(object(R"("k": {"const": "a"})", "\"k\""), object(R"("k": {"const": "b"})", "")), "");
  EXPECT_EQ(one_of(object(R"("a": true)", "\"a\""), object(R"("b": true)", "\"b\"")), "");
  for (const auto& [a, b] : std::vector<std::pair<std::string, std::string>>{
           {R"({"type": "number"})", R"({"type": "integer"})"},
           {R"({"type": "string"})", R"({"const": "a"})"},
           {R"({"const": 1})", R"({"const": 1.0})"},
           {R"({"const": {"a": 1, "b": 2}})", R"({"const": {"b": 2, "a": 1}})"},
           {R"({"type": "array"})", R"({"type": "array", "minItems": 1})"},
           {object(R"("a": true)", ""), object(R"("b": true)", "")},
           {object(R"("k": {"const": "a"})", ""), object(R"("k": {"const": "b"})", "")}})
    EXPECT_THAT(one_of(a, b), HasSubstr("might satisfy the branches 0 and 1")) << a << b;
}

TEST(JsonSchema, LargeOnesAreRefusedOrRead) {
  std::string values;
  for (int i = 0; i < 20000; ++i) values += fmt::format("{}{}", i == 0 ? "" : ",", i);
  EXPECT_THAT(Refusal(R"({"enum": [)" + values + "]}"), HasSubstr("bytes, over the limit"));
  std::string many;
  for (int i = 0; i < 2500; ++i) many += fmt::format("{}\"p{}\":true", i == 0 ? "" : ",", i);
  EXPECT_THAT(Refusal(R"({"type": "object", "properties": {)" + many + "}}"),
              HasSubstr("more than 2000 schemas"));
  std::string branches = "true";
  for (int i = 0; i < 64; ++i) branches += ",true";
  EXPECT_THAT(Refusal(R"({"anyOf": [)" + branches + "]}"), HasSubstr("no list of 1 to 64"));
  std::string halves;
  for (int i = 0; i < 40; ++i)
    halves += fmt::format("{}{{\"type\":\"string\",\"minLength\":{}}}", i == 0 ? "" : ",", i);
  EXPECT_THAT(Refusal(fmt::format(R"({{"anyOf": [{{"anyOf": [{0}]}}, {{"anyOf": [{0}]}}]}})", halves)),
              HasSubstr("more than 64 branches in all"));
  // A chain of references is as long as it is.
  std::string chain;
  for (int i = 0; i < 1500; ++i) chain += fmt::format("\"d{}\": {{\"$ref\": \"#/$defs/d{}\"}},", i, i + 1);
  EXPECT_EQ(Refusal(fmt::format(R"({{"$ref": "#/$defs/d0", "$defs": {{{}"d1500": true}}}})", chain)), "");
}

TEST(JsonSchema, NotesMeanNothing) {
  EXPECT_EQ(
      Refusal(
          R"({"$schema": "x", "$id": "y", "title": "t", "description": "d", "type": "object", "properties":
      {"a": {"$ref": "#/definitions/b~1c", "description": "x", "default": 1, "examples": [2]}}, "required": ["a"],
      "definitions": {"b/c": {"type": ["integer", "null"], "deprecated": true, "$comment": "z"}}})"),
      "");
}

}  // namespace
}  // namespace moraine
