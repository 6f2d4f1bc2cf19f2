#include "policies/prefetch.h"

#include <gtest/gtest.h>

namespace moraine {
namespace {

PrefetchOptions NextGate() { return {.mode = PrefetchMode::kNextGate, .sample = 100, .rest_layers = 10}; }

TEST(PrefetchWatchdog, OffNeverGuesses) { EXPECT_FALSE(PrefetchWatchdog({}).Ask()); }

TEST(PrefetchWatchdog, GuessesThatAreUsedGoOn) {
  PrefetchWatchdog watchdog(NextGate());
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(watchdog.Ask());
    watchdog.Count(8, 5);
  }
}

TEST(PrefetchWatchdog, GuessesThatAreNotRestAndTryAgain) {
  PrefetchWatchdog watchdog(NextGate());
  for (int i = 0; i < 20; ++i) watchdog.Count(5, 2);
  EXPECT_TRUE(watchdog.resting());
  int asked = 1;
  while (!watchdog.Ask()) ++asked;
  EXPECT_EQ(asked, 10);
  // What was counted before the rest does not count again.
  watchdog.Count(99, 0);
  EXPECT_TRUE(watchdog.Ask());
  watchdog.Count(1, 0);
  EXPECT_FALSE(watchdog.Ask());
}

}  // namespace
}  // namespace moraine
