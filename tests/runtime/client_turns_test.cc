// runtime/client_turns.h: shares by client, whatever each brings.
#include "runtime/client_turns.h"

#include <gtest/gtest.h>

namespace moraine {
namespace {

TEST(ClientTurns, StartsOfWhoRunsFewestThenOfWhoWaitedLongest) {
  ClientTurns<int> turns;
  for (int i = 0; i < 4; ++i) turns.Push("a", 10 + i);
  for (int i = 0; i < 4; ++i) turns.Push("b", 20 + i);
  EXPECT_EQ(turns.Start(), 10);
  EXPECT_EQ(turns.Start(), 20);
  EXPECT_EQ(turns.Start(), 11);
  EXPECT_EQ(turns.Start(), 21);
  EXPECT_EQ(turns.waiting(), 4);
  turns.End("b");
  EXPECT_EQ(turns.Start(), 22) << "a started last the longer ago, but runs more";
  turns.End("a");
  turns.End("b");
  EXPECT_EQ(turns.Start(), 12) << "both run one";
}

TEST(ClientTurns, WhoComesStandsLast) {
  ClientTurns<int> turns;
  turns.Push("a", 10);
  turns.Push("a", 11);
  turns.Push("b", 20);
  EXPECT_EQ(turns.Start(), 10);
  turns.End("a");
  EXPECT_EQ(turns.Start(), 20);
  turns.End("b");
  // One place, and new names all the time: a is not overtaken.
  turns.Push("b", 21);
  turns.Push("c", 30);
  EXPECT_EQ(turns.Start(), 11);
}

TEST(ClientTurns, KnowsWhoHasNothingAndTakesBack) {
  ClientTurns<int> turns;
  turns.Push("a", 10);
  turns.Push("a", 11);
  turns.Push("a", 12);
  turns.Start();
  turns.Start();
  EXPECT_FALSE(turns.OneHasNothing());
  turns.Push("b", 20);
  EXPECT_TRUE(turns.OneHasNothing());
  EXPECT_EQ(turns.Running("a"), 2);
  turns.PutBack("a", 11);
  EXPECT_EQ(turns.waiting(), 3);
  EXPECT_EQ(turns.Start(), 20);
  EXPECT_EQ(turns.Start(), 11) << "before what came later";
  turns.Remove("a", 12);
  EXPECT_EQ(turns.waiting(), 0);
}

TEST(ClientTurns, ServesInTurn) {
  ClientTurns<int> turns;
  for (const char* client : {"a", "b"}) turns.Push(client, 0);
  EXPECT_LT(turns.Served("a"), turns.Served("b"));
  turns.Serve("a");
  EXPECT_GT(turns.Served("a"), turns.Served("b"));
}

}  // namespace
}  // namespace moraine
