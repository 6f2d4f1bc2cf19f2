// runtime/core/ordered_json.h: members keep their order, within limits.
#include "runtime/core/ordered_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace moraine {
namespace {

using ::testing::HasSubstr;

std::string Read(const std::string& text, const OrderedJsonLimits& limits = {}) {
  const auto found = ParseOrderedJson(text, "a.b", limits);
  return found.has_value() ? found->dump() : found.error().message;
}

TEST(OrderedJson, KeepsTheOrderOfMembers) {
  EXPECT_EQ(Read(R"( {"z": 1, "y": [2, {"x": null, "w": true}, []], "c": "t", "a": {"b": 1.5}} )"),
            R"({"z":1,"y":[2,{"x":null,"w":true},[]],"c":"t","a":{"b":1.5}})");
  EXPECT_EQ(Read("\"s\""), "\"s\"");
  EXPECT_EQ(Read("[]"), "[]");
  EXPECT_EQ(Read("null"), "null");
}

TEST(OrderedJson, HasLimits) {
  const std::string text = R"({"b": ["one", "two", "three"]})";
  EXPECT_EQ(Read(text, {.max_values = 5, .max_bytes = 12}), R"({"b":["one","two","three"]})");
  EXPECT_THAT(Read(text, {.max_values = 4, .max_bytes = 100}), HasSubstr("a.b has more than 4 values"));
  EXPECT_THAT(Read(text, {.max_values = 5, .max_bytes = 11}), HasSubstr("11 bytes"));
}

}  // namespace
}  // namespace moraine
