// Calls out of answers: both forms, what is cut off or malformed, and any cutting.
#include "runtime/text/tool_call_parser.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <tuple>

#include "tests/text/support.h"

namespace moraine {
namespace {

const std::string kCalls = "<｜tool▁calls▁begin｜>";
const std::string kCall = "<｜tool▁call▁begin｜>";
const std::string kSep = "<｜tool▁sep｜>";
const std::string kEnd = "<｜tool▁call▁end｜>";
const std::string kCallsEnd = "<｜tool▁calls▁end｜>";
const std::string kAll[] = {kCalls, kCall, kSep, kEnd, kCallsEnd};

struct Parsed {
  std::string text;
  std::vector<std::pair<std::string, std::string>> calls;  // name, arguments
  int ended = 0;
  bool operator==(const Parsed&) const = default;
};

void Take(const ToolChunk& chunk, Parsed* parsed) {
  parsed->text += chunk.text;
  for (const ToolCallPiece& piece : chunk.calls) {
    if (!piece.name.empty()) {
      EXPECT_EQ(static_cast<size_t>(piece.index), parsed->calls.size());
      parsed->calls.emplace_back(piece.name, "");
    }
    ASSERT_EQ(static_cast<size_t>(piece.index) + 1, parsed->calls.size()) << "a piece of no call";
    parsed->calls.back().second += piece.arguments;
  }
}

// `answer` has its tags spelled out; the text between them comes in pieces of these lengths.
Parsed Parse(ToolCallForm form, const std::string& answer, const std::vector<size_t>& cuts = {},
             const std::optional<std::string>& begun = {}) {
  ToolCallParser parser(form);
  Parsed parsed;
  size_t cut = 0;
  if (begun) Take(parser.Begin(*begun), &parsed);
  for (size_t at = 0; at < answer.size();) {
    size_t tag = answer.npos;
    size_t which = 0;
    for (size_t i = 0; i < std::size(kAll); ++i) {
      const size_t found = answer.find(kAll[i], at);
      if (found < tag) std::tie(tag, which) = std::pair(found, i);
    }
    const size_t end = std::min(tag, answer.size());
    while (at < end) {
      const size_t length = cuts.empty() ? end - at : std::max<size_t>(cuts[cut++ % cuts.size()], 1);
      const size_t got = std::min(length, end - at);
      Take(parser.Text(std::string_view(answer).substr(at, got)), &parsed);
      at += got;
    }
    if (tag == answer.npos) break;
    Take(parser.Tag(static_cast<ToolTag>(which)), &parsed);
    at += kAll[which].size();
  }
  Take(parser.Finish(), &parsed);
  parsed.ended = parser.ended();
  return parsed;
}

constexpr auto kFenced = ToolCallForm::kFenced;
constexpr auto kPlain = ToolCallForm::kPlain;

TEST(ToolCallParser, ReadsWhatR1Writes) {
  const std::string one =
      kCall + "function" + kSep + "get_weather\n```json\n{\"city\": \"Paris\"}\n```" + kEnd;
  const std::string two = kCall + "function" + kSep + "f\n```json\n{\"a\": \"```\"}\n```" + kEnd;
  const Parsed both = {"I look.", {{"get_weather", "{\"city\": \"Paris\"}"}, {"f", "{\"a\": \"```\"}"}}, 2};
  EXPECT_EQ(Parse(kFenced, "I look." + kCalls + one + "\n" + two + kCallsEnd), both);
  EXPECT_EQ(Parse(kFenced, "I look." + one + two), both) << "as V3's template goes on in a later turn";
  EXPECT_EQ(Parse(kFenced, "{\"city\": 1}\n```" + kEnd + kCallsEnd, {}, "f"),
            (Parsed{"", {{"f", "{\"city\": 1}"}}, 1}));
  EXPECT_EQ(Parse(kFenced, "f\n```json\n{}\n```" + kEnd, {}, ""), (Parsed{"", {{"f", "{}"}}, 1}));
}

TEST(ToolCallParser, ReadsWhatV31Writes) {
  EXPECT_EQ(Parse(kPlain, kCalls + kCall + "f" + kSep + "{\"a\": 1}" + kEnd + kCall + "g" + kSep + "{}" +
                              kEnd + kCallsEnd),
            (Parsed{"", {{"f", "{\"a\": 1}"}, {"g", "{}"}}, 2}));
  EXPECT_EQ(Parse(kPlain, " {\"a\": 1}\n" + kEnd, {}, "f"), (Parsed{"", {{"f", "{\"a\": 1}"}}, 1}));
  EXPECT_EQ(Parse(kPlain, "f" + kSep + "[]", {}, ""), (Parsed{"", {{"f", "[]"}}, 0}));
}

TEST(ToolCallParser, ForgivesWhatIsClear) {
  // No fence, another fence, no arguments, ends that are missing.
  const std::string head = kCalls + kCall + "function" + kSep;
  const Parsed call = {"", {{"f", "{\"a\":1}"}}, 1};
  EXPECT_EQ(Parse(kFenced, head + "f\n{\"a\":1}" + kEnd), call);
  EXPECT_EQ(Parse(kFenced, head + " f \n``` json\n{\"a\":1}\n```\n" + kEnd), call);
  EXPECT_EQ(Parse(kFenced, head + "f\n```json\n{\"a\":1}\n```" + kCallsEnd), call);
  EXPECT_EQ(Parse(kFenced, head + "f" + kEnd), (Parsed{"", {{"f", "{}"}}, 1}));
  EXPECT_EQ(Parse(kPlain, kCalls + kCall + "f" + kSep + kEnd), (Parsed{"", {{"f", "{}"}}, 1}));
  EXPECT_EQ(Parse(kPlain, kCall + "f" + kSep + "not {json" + kEnd).calls[0].second, "not {json");
}

TEST(ToolCallParser, WhatIsCutOffIsACallOnceItIsNamed) {
  const std::string head = kCalls + kCall + "function" + kSep;
  EXPECT_EQ(Parse(kFenced, head + "f\n```json\n{\"a\": 1"), (Parsed{"", {{"f", "{\"a\": 1"}}, 0}));
  EXPECT_EQ(Parse(kFenced, head + "f\n```json\n{\"a\": 1}\n``"), (Parsed{"", {{"f", "{\"a\": 1}"}}, 0}));
  EXPECT_EQ(Parse(kFenced, head + "f\n``"), (Parsed{"", {{"f", ""}}, 0}));
  EXPECT_EQ(Parse(kFenced, head), (Parsed{kCall + "function" + kSep, {}, 0}));
  EXPECT_EQ(Parse(kPlain, "x" + kCalls + kCall + "get_we"), (Parsed{"x" + kCall + "get_we", {}, 0}));
}

TEST(ToolCallParser, WhatHasNoNameStaysText) {
  EXPECT_EQ(Parse(kPlain, kCall + "no name" + kSep + "{}" + kEnd).text,
            kCall + "no name" + kSep + "{}" + kEnd);
  EXPECT_EQ(Parse(kFenced, kCall + "function" + kSep + "a b\n{}" + kEnd).text,
            kCall + "function" + kSep + "a b\n{}" + kEnd);
  EXPECT_EQ(Parse(kPlain, kSep + "a" + kEnd).text, kSep + "a" + kEnd);
  const std::string endless(10000, 'x');
  EXPECT_EQ(Parse(kPlain, kCall + endless, {7}).text, kCall + endless);
  EXPECT_EQ(Parse(kFenced, kCall + "function" + kSep + endless, {7}).text,
            kCall + "function" + kSep + endless);
  // What follows a call that was none is read again.
  EXPECT_EQ(Parse(kPlain, kCall + "?" + kCall + "f" + kSep + "{}" + kEnd),
            (Parsed{kCall + "?", {{"f", "{}"}}, 1}));
}

TEST(ToolCallParser, GivesArgumentsAsTheyCome) {
  ToolCallParser parser(kFenced);
  parser.Begin("f");
  EXPECT_EQ(parser.Text("{\"a\": ").calls.at(0).arguments, "{\"a\":");
  EXPECT_EQ(parser.Text("1").calls.at(0).arguments, " 1");
  EXPECT_TRUE(parser.Text("}\n```").calls.at(0).arguments == "}");
}

TEST(ToolTags, AreTokensOfDeepSeeksVocabulary) {
  MORAINE_NEED_DEEPSEEK();
  const ToolTags tags(*DeepSeekTokenizer());
  for (size_t i = 0; i < std::size(kAll); ++i) {
    const auto id = DeepSeekTokenizer()->TokenId(kAll[i]);
    ASSERT_TRUE(id.has_value()) << kAll[i];
    EXPECT_EQ(tags.Find(*id), static_cast<ToolTag>(i));
    EXPECT_EQ(Spelling(static_cast<ToolTag>(i)), kAll[i]);
    EXPECT_FALSE(DeepSeekTokenizer()->IsSpecial(*id)) << "a decoder that skips those would lose it";
  }
  EXPECT_FALSE(tags.Find(0).has_value());
}

RC_GTEST_PROP(ToolCallParser, AgreesWithItselfHoweverTheAnswerIsCut, ()) {
  const auto piece = rc::gen::elementOf(std::vector<std::string>{kCalls,
                                                                 kCall,
                                                                 kSep,
                                                                 kEnd,
                                                                 kCallsEnd,
                                                                 "function",
                                                                 "f",
                                                                 "get_weather",
                                                                 "\n",
                                                                 "```json\n",
                                                                 "```",
                                                                 "`",
                                                                 " ",
                                                                 "{\"a\": 1}",
                                                                 "{",
                                                                 "\"```\"",
                                                                 "\n```",
                                                                 "é",
                                                                 std::string(300, 'n'),
                                                                 std::string(260, ' ')});
  const auto pieces = *rc::gen::container<std::vector<std::string>>(piece);
  const auto cuts =
      *rc::gen::nonEmpty(rc::gen::container<std::vector<size_t>>(rc::gen::inRange<size_t>(1, 6)));
  const auto form = *rc::gen::element(kFenced, kPlain);
  const auto begun = *rc::gen::elementOf(std::vector<std::optional<std::string>>{std::nullopt, "", "f"});
  std::string answer;
  for (const std::string& one : pieces) answer += one;
  RC_ASSERT(Parse(form, answer, cuts, begun) == Parse(form, answer, {}, begun));
  RC_ASSERT(Parse(form, answer, {1}, begun) == Parse(form, answer, {}, begun));
}

}  // namespace
}  // namespace moraine
