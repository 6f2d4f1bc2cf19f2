// bin/moraine under what a user, a container or a batch system leaves it of the machine: some of its
// processors, a share of their time. As many workers as it may use, and the same tokens.
#include <fmt/core.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include "tests/support/cgroup.h"
#include "tests/support/moraine_process.h"

namespace moraine::test {
namespace {

using ::testing::HasSubstr;

// The processors this test may use; the operating system's numbers.
std::vector<int> UsableCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

// As taskset does it.
std::function<bool()> OnCpu(int cpu) {
  return [cpu] {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof set, &set) == 0;
  };
}

// A prompt long enough for oneDNN's tiles, then tokens one by one.
ProcessResult Answer(std::function<bool()> constrain, const std::vector<std::string>& more = {}) {
  std::vector<int> ids(300);
  for (int i = 0; i < 300; ++i) ids[static_cast<size_t>(i)] = 20 + i * 7 % 600;
  std::vector<std::string> arguments = {"run",
                                        std::string(MORAINE_SOURCE_DIR) + "/models/tiny-r1",
                                        "--greedy",
                                        "--prompt-ids",
                                        fmt::format("{}", fmt::join(ids, ",")),
                                        "--ignore-eos",
                                        "--max-tokens",
                                        "40"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return RunMoraine(arguments, {.constrain = std::move(constrain)});
}

class Constraints : public ::testing::Test {
 protected:
  // Runs under the constraint and expects `threads` workers and the tokens of a run without any.
  void Expect(const std::function<bool()>& constrain, int threads,
              const std::vector<std::string>& more = {}) {
    const ProcessResult free = Answer({});
    ASSERT_EQ(free.exit_code, 0) << free.err;
    ASSERT_GT(free.out.size(), 40u);
    const ProcessResult result = Answer(constrain, more);
    ASSERT_EQ(result.exit_code, 0) << result.err;
    // At the beginning of a line: what was set comes before it.
    EXPECT_THAT("\n" + result.err,
                HasSubstr(fmt::format("\n{} thread{}, ", threads, threads == 1 ? "" : "s")));
    EXPECT_EQ(result.out, free.out);
  }

  const std::vector<int> cpus_ = UsableCpus();
};

TEST_F(Constraints, OneProcessorWhicheverItIs) {
  for (const int cpu : {cpus_.front(), cpus_.back()}) Expect(OnCpu(cpu), 1);
}

TEST_F(Constraints, MoreThreadsThanProcessors) { Expect(OnCpu(cpus_.back()), 3, {"--threads", "3"}); }

TEST_F(Constraints, CpusetOfOneProcessor) {
  std::string why;
  const auto group = Cgroup::Make("cpuset", &why);
  if (group == nullptr) GTEST_SKIP() << why;
  for (const int cpu : {cpus_.front(), cpus_.back()}) {
    if (!group->SetCpu(cpu)) GTEST_SKIP() << "this cpuset cannot be set";
    Expect([&] { return group->Enter(); }, 1);
  }
}

TEST_F(Constraints, QuotaOfProcessorTime) {
  std::string why;
  const auto group = Cgroup::Make("cpu", &why);
  if (group == nullptr) GTEST_SKIP() << why;
  for (const double quota : {0.5, 1.0, 1.5}) {
    if (!group->SetQuota(quota)) GTEST_SKIP() << "this quota cannot be set";
    // One worker a core at most: two hardware threads of one core are one.
    const int most = static_cast<int>(cpus_.size());
    const ProcessResult free = Answer({});
    const int cores = std::atoi(free.err.c_str());
    ASSERT_TRUE(cores >= 1 && cores <= most) << free.err;
    Expect([&] { return group->Enter(); }, std::min(cores, quota > 1 ? 2 : 1));
  }
}

}  // namespace
}  // namespace moraine::test
