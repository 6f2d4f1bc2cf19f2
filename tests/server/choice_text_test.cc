// Stop strings, tags and code points over any cutting of a text.
#include "runtime/server/openai/choice_text.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "runtime/text/utf8.h"

namespace moraine::test {
namespace {

// What is left of `text`, pushed in pieces of these lengths.
std::string Pushed(const std::string& text, const std::vector<std::string>& stops,
                   const std::vector<size_t>& cuts, bool* met = nullptr) {
  StopStrings matcher(stops);
  std::string out;
  size_t at = 0;
  for (size_t i = 0; at < text.size(); ++i) {
    const size_t length = cuts.empty() ? text.size() : std::max<size_t>(cuts[i % cuts.size()], 1);
    out += matcher.Push(text.substr(at, length));
    at += length;
  }
  if (met != nullptr) *met = matcher.met();
  return out + matcher.Finish();
}

TEST(StopStrings, EndBeforeTheFirstWhereverItIsCut) {
  for (size_t piece = 1; piece < 8; ++piece) {
    bool met = false;
    EXPECT_EQ(Pushed("one STOP two", {"STOP"}, {piece}, &met), "one ");
    EXPECT_TRUE(met);
    EXPECT_EQ(Pushed("one STO two", {"STOP"}, {piece}, &met), "one STO two");
    EXPECT_FALSE(met);
    EXPECT_EQ(Pushed("ababac", {"abac"}, {piece}), "ab");
    EXPECT_EQ(Pushed("tail ST", {"STOP"}, {piece}), "tail ST");
    EXPECT_EQ(Pushed("x END STOP", {"STOP", "END"}, {piece}), "x ");
  }
}

TEST(StopStrings, HoldBackOnlyWhatCouldBegin) {
  StopStrings stops({"\n\nQ:"});
  EXPECT_EQ(stops.Push("answer\n"), "answer");
  EXPECT_EQ(stops.Push("\n"), "");
  EXPECT_EQ(stops.Push("A"), "\n\nA");
  EXPECT_EQ(stops.Push("\n\nQ: next"), "");
  EXPECT_TRUE(stops.met());
  EXPECT_EQ(stops.Push("more"), "");
  EXPECT_EQ(stops.Finish(), "");
}

RC_GTEST_PROP(StopStrings, AgreeWithASearchOfTheWholeText, ()) {
  const auto letters = rc::gen::container<std::string>(rc::gen::element('a', 'b'));
  const std::string text = *letters;
  std::vector<std::string> stops = *rc::gen::container<std::vector<std::string>>(letters);
  std::erase_if(stops, [](const std::string& stop) { return stop.empty(); });
  const auto cuts = *rc::gen::container<std::vector<size_t>>(rc::gen::inRange<size_t>(1, 5));
  // The stop whose end comes first wins: later ones would need text that was never generated.
  size_t end = text.npos;
  for (const std::string& stop : stops) {
    if (const size_t at = text.find(stop); at != text.npos) end = std::min(end, at);
  }
  const std::string got = Pushed(text, stops, cuts);
  if (end == text.npos) {
    RC_ASSERT(got == text);
  } else {
    // Cut in pieces, a stop that begins later may be complete earlier; then more of the text stands.
    RC_ASSERT(text.rfind(got, 0) == 0);
    RC_ASSERT(got.size() >= end);
    RC_ASSERT(std::ranges::any_of(
        stops, [&](const std::string& stop) { return text.compare(got.size(), stop.size(), stop) == 0; }));
  }
}

class TinyText : public ::testing::Test {
 protected:
  void SetUp() override {
    auto opened = Tokenizer::Open(MORAINE_SOURCE_DIR "/models/tiny-r1/tokenizer.json");
    ASSERT_TRUE(opened.has_value()) << opened.error().message;
    tokenizer_ = std::move(*opened);
  }
  int32_t Id(const char* token) const { return tokenizer_->TokenId(token).value_or(-1); }
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(TinyText, StopsCountInTheAnswerAlone) {
  ChoiceText text = ChoiceText::Chat(*tokenizer_, true, {"5"});
  std::string reasoning;
  std::string content;
  const auto push = [&](int32_t id) {
    const TextPiece piece = text.Push(id);
    reasoning += piece.reasoning;
    content += piece.content;
  };
  for (const int32_t id : tokenizer_->Encode("3+2=5")) push(id);
  EXPECT_FALSE(text.stopped());
  const auto thought = static_cast<int64_t>(tokenizer_->Encode("3+2=5").size());
  push(Id("</think>"));
  for (const int32_t id : tokenizer_->Encode("It is 5.")) push(id);
  EXPECT_TRUE(text.stopped());
  const TextPiece last = text.Finish();
  EXPECT_EQ(reasoning + last.reasoning, "3+2=5");
  EXPECT_EQ(content + last.content, "It is ");
  EXPECT_EQ(text.reasoning_tokens(), thought + 1) << "the closing tag is one of them";
}

struct Called {
  std::string reasoning;
  std::string content;
  std::vector<ToolCallDelta> calls;  // joined
};

// Every token of `answer`, whose tags are meant, until the text wants no more.
Called Read(const Tokenizer& tokenizer, ChoiceText text, const std::string& answer) {
  Called read;
  const auto take = [&](const TextPiece& piece) {
    read.reasoning += piece.reasoning;
    read.content += piece.content;
    for (const ToolCallDelta& call : piece.calls) {
      if (!call.name.empty()) {
        read.calls.push_back(call);
        continue;
      }
      ASSERT_EQ(static_cast<size_t>(call.index) + 1, read.calls.size());
      read.calls.back().arguments += call.arguments;
    }
  };
  for (const int32_t id : tokenizer.EncodeWithAddedTokens(answer)) {
    take(text.Push(id));
    if (text.stopped()) break;
  }
  take(text.Finish());
  return read;
}

std::string Fenced(const std::string& name, const std::string& arguments) {
  return "<｜tool▁call▁begin｜>function<｜tool▁sep｜>" + name + "\n```json\n" + arguments +
         "\n```<｜tool▁call▁end｜>";
}

TEST_F(TinyText, CallsAreReadBehindTheReasoning) {
  const std::string answer = "I add.<｜tool▁calls▁begin｜></think>\n\n<｜tool▁calls▁begin｜>" +
                             Fenced("add", "{\"a\": 3}") + "\n" + Fenced("mul", "{\"é\": 4}") +
                             "<｜tool▁calls▁end｜>";
  const Called read = Read(*tokenizer_, ChoiceText::Chat(*tokenizer_, true, {"3"}, ToolReading()), answer);
  EXPECT_EQ(read.reasoning, "I add.<｜tool▁calls▁begin｜>") << "a call within reasoning is none";
  EXPECT_EQ(read.content, "") << "the blank lines before a call are no content";
  ASSERT_EQ(read.calls.size(), 2u);
  EXPECT_EQ(read.calls[0].name, "add");
  EXPECT_EQ(read.calls[0].arguments, "{\"a\": 3}") << "stop strings count in the text alone";
  EXPECT_EQ(read.calls[1].arguments, "{\"é\": 4}");
  EXPECT_EQ(read.calls[0].id.substr(0, 5), "call_");
  EXPECT_NE(read.calls[0].id, read.calls[1].id);
}

TEST_F(TinyText, OneCallAloneEndsTheAnswer) {
  const std::string answer =
      "Sum: ST<｜tool▁calls▁begin｜>" + Fenced("add", "{}") + Fenced("mul", "{}") + "more";
  const Called read = Read(
      *tokenizer_, ChoiceText::Chat(*tokenizer_, false, {"STOP"}, ToolReading{.one_call = true}), answer);
  EXPECT_EQ(read.content, "Sum: ST") << "a stop string does not go on behind a tag";
  ASSERT_EQ(read.calls.size(), 1u);
  EXPECT_EQ(read.calls[0].name, "add");
}

TEST_F(TinyText, ACallThatThePromptBeganGoesOn) {
  const ToolReading tools = {.begun_call = "add"};
  const Called read = Read(*tokenizer_, ChoiceText::Chat(*tokenizer_, false, {}, tools), "623.");
  ASSERT_EQ(read.calls.size(), 1u);
  EXPECT_EQ(read.calls[0].name, "add");
  EXPECT_EQ(read.calls[0].arguments, "623.");
  EXPECT_EQ(Read(*tokenizer_, ChoiceText::Chat(*tokenizer_, false, {}, tools), "").calls.size(), 1u);
}

TEST_F(TinyText, NoReasoningOpensWithinACall) {
  const ToolReading tools = {.begun_call = "add"};
  const Called read = Read(*tokenizer_, ChoiceText::Chat(*tokenizer_, false, {}, tools), "<think>3</think>4");
  EXPECT_EQ(read.reasoning, "");
  EXPECT_EQ(read.calls.at(0).arguments, "34");
}

TEST_F(TinyText, WithoutToolsTheTagsAreText) {
  const std::string answer = "<｜tool▁calls▁begin｜>" + Fenced("add", "{}");
  EXPECT_EQ(Read(*tokenizer_, ChoiceText::Chat(*tokenizer_, false, {}), answer).content, answer);
}

TEST_F(TinyText, NoPieceCutsACodePoint) {
  ChoiceText text = ChoiceText::Plain(*tokenizer_, {"\xE2\x82\xAC\xE2\x82\xAC"});
  const std::string all = "a\xE2\x82\xAC b \xF0\x9F\x98\x80 \xC3\xA9";
  std::string joined;
  int pieces = 0;
  for (const int32_t id : tokenizer_->Encode(all)) {
    const TextPiece piece = text.Push(id);
    EXPECT_TRUE(IsUtf8(piece.content)) << piece.content;
    joined += piece.content;
    ++pieces;
  }
  EXPECT_EQ(joined + text.Finish().content, all);
  EXPECT_GT(pieces, 8) << "the test's text is not cut at all";
}

}  // namespace
}  // namespace moraine::test
