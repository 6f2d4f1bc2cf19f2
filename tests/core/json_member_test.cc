// runtime/core/json_member.h: the member is found where it is, in order, within limits.
#include "runtime/core/json_member.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace moraine {
namespace {

using ::testing::HasSubstr;

std::string Read(const std::string& text, const JsonMemberLimits& limits = {}) {
  const auto found = ReadOrderedMember(text, {"a", "b"}, limits);
  return found.has_value() ? found->dump() : found.error().message;
}

TEST(JsonMember, IsFoundAndKeepsItsOrder) {
  EXPECT_EQ(Read(R"({"a": {"b": {"z": 1, "y": [2, {"x": null, "w": true}], "c": "t", "a": {"b": 1.5}}}})"),
            R"({"z":1,"y":[2,{"x":null,"w":true}],"c":"t","a":{"b":1.5}})");
  EXPECT_EQ(Read(R"({"x": {"a": {"b": 1}, "b": 2}, "b": 3, "a": {"c": {"b": 4}, "d": [{"b": 5}], "b": 6}})"),
            "6");
  EXPECT_EQ(Read(R"({"a": {"b": "s"}})"), "\"s\"");
  EXPECT_EQ(Read(R"({"a": {"b": []}, "c": 1})"), "[]");
}

TEST(JsonMember, IsNullWhereThereIsNone) {
  for (const char* text :
       {"{}", "[]", "1", R"({"a": 1})", R"({"a": [{"b": 1}]})", R"([{"a": {"b": 1}}])",
        R"({"b": {"a": {"b": 1}}})", R"({"a": {}, "b": 1})", R"({"a": {"c": {}}, "c": {"b": 1}})"})
    EXPECT_EQ(Read(text), "null") << text;
}

TEST(JsonMember, HasLimitsOfItsOwn) {
  const std::string text = R"({"x": [1, 2, 3, 4, 5, 6, 7, 8], "a": {"b": ["one", "two", "three"]}})";
  EXPECT_EQ(Read(text, {.max_values = 4, .max_bytes = 11}), R"(["one","two","three"])");
  EXPECT_THAT(Read(text, {.max_values = 3, .max_bytes = 100}), HasSubstr("a.b has more than 3 values"));
  EXPECT_THAT(Read(text, {.max_values = 4, .max_bytes = 10}), HasSubstr("10 bytes"));
}

}  // namespace
}  // namespace moraine
