#include "tools/event_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace moraine::tools {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> Events(const std::vector<std::string>& pieces) {
  std::vector<std::string> events;
  EventStream stream;
  for (const std::string& piece : pieces)
    stream.Push(piece, [&](const std::string& data) { events.push_back(data); });
  return events;
}

TEST(EventStream, AnyCutGivesTheSameEvents) {
  const std::string text =
      ": ping\n\ndata: {\"a\": 1}\n\nevent: x\r\ndata: two\r\ndata:lines\r\n\r\ndata: [DONE]\n\n";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    EXPECT_THAT(Events({text.substr(0, cut), text.substr(cut)}),
                ElementsAre("{\"a\": 1}", "two\nlines", "[DONE]"))
        << cut;
  }
}

TEST(EventStream, AnEventWithoutItsEndIsNone) {
  EXPECT_THAT(Events({"data: a\n"}), ElementsAre());
  EXPECT_THAT(Events({"data: a\n\n", "data: b"}), ElementsAre("a"));
  EXPECT_THAT(Events({"data:\n\n"}), ElementsAre(""));
}

}  // namespace
}  // namespace moraine::tools
