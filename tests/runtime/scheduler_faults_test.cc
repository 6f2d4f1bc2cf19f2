// Drives that fail under a scheduler: who needs what cannot be read ends with the error, the others go on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <iterator>
#include <memory>
#include <set>

#include "runtime/scheduler.h"
#include "tests/support/faulty_backend.h"
#include "tests/support/golden.h"
#include "tests/support/recording_sink.h"

namespace moraine {
namespace {

using test::Answer;
using test::FaultyBackend;
using test::Golden;
using test::RecordingSink;
using ::testing::HasSubstr;

// The places of experts that were read, and those that cannot be.
struct Drive {
  std::set<int64_t> seen;
  std::set<int64_t> broken;
  std::atomic<bool> all_broken = false;
};

class SchedulerFaults : public ::testing::Test {
 protected:
  // No expert stays in memory: every step reads what it needs.
  std::unique_ptr<Scheduler> Start(Drive* drive) {
    EngineOptions options{.context = 160, .sequences = 4};
    options.experts.slots = 0;
    options.experts.backend = [drive] {
      return std::make_unique<FaultyBackend>([drive](const ChunkRead& read) {
        drive->seen.insert(read.offset);
        const bool broken = drive->all_broken || drive->broken.count(read.offset) > 0;
        return broken ? Answer{.error = EIO} : Answer{};
      });
    };
    auto engine = Engine::Open(golden_.folder(), options);
    EXPECT_TRUE(engine.has_value()) << engine.error().message;
    return Scheduler::Start(*std::move(engine), {}).value();
  }
  GenerationRequest Greedy(int32_t first, int64_t tokens) const {
    GenerationRequest request;
    request.prompt = {first};
    request.sampling.temperature = 0;
    request.max_tokens = tokens;
    request.client = std::to_string(first);
    return request;
  }
  static std::shared_ptr<RecordingSink> Submit(Scheduler* scheduler, const GenerationRequest& request) {
    auto sink = std::make_shared<RecordingSink>();
    EXPECT_TRUE(scheduler->Submit(request, sink).has_value());
    return sink;
  }
  // What a request alone says and reads, first in its prompt, then in all.
  struct Alone {
    std::vector<int32_t> tokens;
    std::set<int64_t> prompt_reads;
    std::set<int64_t> reads;
  };
  Alone RunAlone(int32_t first, int64_t tokens) {
    Drive drive;
    Alone alone;
    const auto scheduler = Start(&drive);
    auto sink = std::make_shared<RecordingSink>();
    sink->on_token = [&](size_t count) {
      if (count == 1) alone.prompt_reads = drive.seen;
      return true;
    };
    EXPECT_TRUE(scheduler->Submit(Greedy(first, tokens), sink).has_value());
    sink->Wait();
    alone.tokens = sink->tokens;
    alone.reads = drive.seen;
    return alone;
  }

  const Golden golden_{"v3-fp8"};
};

TEST_F(SchedulerFaults, OnlyWhoNeedsTheBadExpertFails) {
  // A victim and a place that it reads while decoding, not before, and that another never reads.
  constexpr int64_t kTokens = 4;
  constexpr int64_t kOthers = 6;
  std::vector<Alone> alone;
  std::vector<Alone> others;
  for (int32_t id = 0; id < 12; ++id) {
    alone.push_back(RunAlone(id, kTokens));
    others.push_back(RunAlone(id, kOthers));
  }
  for (size_t victim = 0; victim < alone.size(); ++victim) {
    for (size_t other = 0; other < others.size(); ++other) {
      std::set<int64_t> places;
      for (const int64_t place : alone[victim].reads) {
        if (alone[victim].prompt_reads.count(place) == 0 && others[other].reads.count(place) == 0)
          places.insert(place);
      }
      if (places.empty()) continue;
      Drive drive;
      const auto scheduler = Start(&drive);
      drive.broken = {*places.begin()};
      // The victim comes while the other decodes, so that the step that fails is of both.
      const auto bad = std::make_shared<RecordingSink>();
      const auto good = std::make_shared<RecordingSink>();
      good->on_token = [&](size_t tokens) {
        return tokens > 1 ||
               scheduler->Submit(Greedy(static_cast<int32_t>(victim), kTokens), bad).has_value();
      };
      ASSERT_TRUE(scheduler->Submit(Greedy(static_cast<int32_t>(other), kOthers), good).has_value());
      bad->Wait();
      good->Wait();
      ASSERT_FALSE(bad->outcome->has_value());
      EXPECT_EQ(bad->outcome->error().kind, ErrorKind::kIo);
      EXPECT_THAT(bad->outcome->error().message, HasSubstr("expert "));
      EXPECT_GE(bad->tokens.size(), 1u);
      EXPECT_LT(bad->tokens.size(), alone[victim].tokens.size());
      ASSERT_TRUE(good->outcome->has_value()) << good->outcome->error().message;
      EXPECT_EQ(good->tokens, others[other].tokens);
      EXPECT_EQ(scheduler->stats().failed, 1);
      EXPECT_TRUE(scheduler->Health().has_value());
      return;
    }
  }
  FAIL() << "no two of these prompts run different experts";
}

TEST_F(SchedulerFaults, WhereNothingCanBeReadAllFailAndTheNextIsServed) {
  Drive drive;
  const auto scheduler = Start(&drive);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int32_t i = 0; i < 3; ++i) {
    sinks.push_back(std::make_shared<RecordingSink>());
    sinks.back()->on_token = [&](size_t tokens) {
      if (tokens == 4) drive.all_broken = true;
      return true;
    };
    ASSERT_TRUE(scheduler->Submit(Greedy(i, 20), sinks.back()).has_value());
  }
  for (const auto& sink : sinks) {
    sink->Wait();
    ASSERT_FALSE(sink->outcome->has_value());
    EXPECT_EQ(sink->outcome->error().kind, ErrorKind::kIo);
  }
  drive.all_broken = false;
  EXPECT_TRUE(scheduler->Health().has_value());
  const auto after = Submit(scheduler.get(), Greedy(1, 20));
  after->Wait();
  EXPECT_EQ(after->tokens, RunAlone(1, 20).tokens);
}

}  // namespace
}  // namespace moraine
