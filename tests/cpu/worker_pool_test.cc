// cpu/worker_pool.h: every task once, for any number of threads, again and again.
#include "cpu/worker_pool.h"

#include <gtest/gtest.h>
#include <time.h>

#include <array>
#include <atomic>
#include <chrono>
#include <vector>

namespace moraine {
namespace {

TEST(WorkerPool, RunsEveryTaskOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    WorkerPool pool(threads);
    ASSERT_EQ(pool.threads(), threads);
    for (int round = 0; round < 200; ++round) {
      const int64_t tasks = round % 17;
      std::vector<std::atomic<int>> counts(static_cast<size_t>(tasks));
      pool.ParallelFor(tasks, [&](int64_t task, int worker) {
        ASSERT_TRUE(worker >= 0 && worker < threads);
        ++counts[static_cast<size_t>(task)];
      });
      for (const auto& count : counts) ASSERT_EQ(count.load(), 1);
    }
  }
}

TEST(WorkerPool, EveryNodeRunsItsOwnTasksOnItsOwnWorkers) {
  const std::vector<WorkerPlace> places = {{.node = NodeId{0}},
                                           {.node = NodeId{0}},
                                           {.node = NodeId{1}},
                                           {.node = NodeId{2}},
                                           {.node = NodeId{2}}};
  WorkerPool pool(places);
  ASSERT_EQ(pool.nodes(), 3);
  ASSERT_EQ(pool.threads_of(NodeId{2}), 2);
  for (int64_t round = 0; round < 300; ++round) {
    const auto tasks = [round](NodeId node) { return (round + 5 * node.value) % 13; };
    std::array<std::array<std::atomic<int>, 13>, 3> counts{};
    std::atomic<bool> strayed = false;
    pool.ForNodes(tasks, [&](NodeId node, int64_t task, int worker) {
      ++counts[static_cast<size_t>(node.value)][static_cast<size_t>(task)];
      if (places[static_cast<size_t>(worker)].node != node) strayed = true;
    });
    for (int32_t n = 0; n < 3; ++n) {
      for (int64_t task = 0; task < 13; ++task) {
        ASSERT_EQ(counts[static_cast<size_t>(n)][static_cast<size_t>(task)], task < tasks(NodeId{n}) ? 1 : 0);
      }
    }
    ASSERT_FALSE(strayed.load());
    // A job for everybody in between: its tasks go to any worker.
    std::atomic<int> shared = 0;
    pool.ParallelFor(7, [&](int64_t, int) { ++shared; });
    ASSERT_EQ(shared.load(), 7);
  }
}

TEST(WorkerPool, WhatTasksWroteIsSeenAfterwards) {
  WorkerPool pool(4);
  std::vector<int64_t> values(1000);
  for (int64_t round = 1; round <= 500; ++round) {
    pool.ParallelFor(1000, [&](int64_t task, int) { values[static_cast<size_t>(task)] = task * round; });
    for (int64_t i = 0; i < 1000; i += 97) ASSERT_EQ(values[static_cast<size_t>(i)], i * round);
  }
}

// CPU time, not wall time: an idle pool must sleep, however busy the machine is.
TEST(WorkerPool, IdleThreadsUseNoCpu) {
  WorkerPool pool(8);
  pool.ParallelFor(100, [](int64_t, int) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  timespec before;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  timespec after;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
  const double used = static_cast<double>(after.tv_sec - before.tv_sec) +
                      1e-9 * static_cast<double>(after.tv_nsec - before.tv_nsec);
  EXPECT_LE(used, 0.01);
}

}  // namespace
}  // namespace moraine
