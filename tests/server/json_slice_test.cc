// Values as they are spelled, against the same document parsed.
#include "runtime/server/openai/json_slice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <nlohmann/json.hpp>

namespace moraine::test {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;

TEST(JsonSlice, FindsMembersAsTheyAreSpelled) {
  const std::string_view text =
      " {\"a\" : {\"z\":1.50, \"a\":\"}\\\"]\"} ,\"\\u0062\":[ ],\"c\": -1e5 ,\"d\\\"\":null}\n";
  EXPECT_EQ(MemberText(text, "a"), "{\"z\":1.50, \"a\":\"}\\\"]\"}");
  EXPECT_EQ(MemberText(text, "b"), "[ ]") << "an escaped name";
  EXPECT_EQ(MemberText(text, "c"), "-1e5");
  EXPECT_EQ(MemberText(text, "d\""), "null");
  EXPECT_EQ(MemberText(text, "z"), std::nullopt) << "of an object further in";
  EXPECT_EQ(MemberText("{}", "a"), std::nullopt);
  EXPECT_EQ(MemberText("[1]", "a"), std::nullopt);
  EXPECT_THAT(ElementTexts("[ 1 ,\"a,]\", {\"b\":[2,3]},[]]"),
              ElementsAre("1", "\"a,]\"", "{\"b\":[2,3]}", "[]"));
  EXPECT_THAT(ElementTexts("[ ]"), ElementsAre());
  EXPECT_THAT(ElementTexts("{}"), ElementsAre());
}

// Nested at most `depth` deep; strings of what could mislead.
json Value(int depth) {
  const int kind = *rc::gen::inRange(0, depth > 0 ? 6 : 4);
  if (kind == 0) return nullptr;
  if (kind == 1) return *rc::gen::arbitrary<bool>();
  if (kind == 2) return *rc::gen::arbitrary<int>();
  if (kind == 3)
    return *rc::gen::container<std::string>(rc::gen::element('"', '\\', '{', ']', ',', ':', 'a', ' '));
  json made = kind == 4 ? json::array() : json::object();
  for (int i = *rc::gen::inRange(0, 4); i > 0; --i) {
    if (kind == 4) {
      made.push_back(Value(depth - 1));
    } else {
      made[*rc::gen::container<std::string>(rc::gen::element('"', '\\', 'a', '}'))] = Value(depth - 1);
    }
  }
  return made;
}

RC_GTEST_PROP(JsonSlice, AgreesWithTheParser, ()) {
  const json document = Value(4);
  const std::string text = document.dump(*rc::gen::element(-1, 0, 3));
  if (document.is_object()) {
    for (const auto& [key, value] : document.items()) {
      const auto found = MemberText(text, key);
      RC_ASSERT(found.has_value());
      RC_ASSERT(json::parse(*found) == value);
    }
  }
  json list = json::array();
  for (const std::string_view element : ElementTexts(text)) list.push_back(json::parse(element));
  if (document.is_array()) RC_ASSERT(list == document);
}

}  // namespace
}  // namespace moraine::test
