// runtime/scheduler.h: what a request gets does not depend on who else is served, and nobody waits for ever.
#include "runtime/scheduler.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <string>
#include <thread>

#include "runtime/generate.h"
#include "tests/support/golden.h"
#include "tests/support/recording_sink.h"

namespace moraine {
namespace {

using test::Gate;
using test::Golden;
using test::RecordingSink;
using ::testing::HasSubstr;

const std::string kTiny = MORAINE_SOURCE_DIR "/models/tiny-r1";

std::unique_ptr<Engine> Open(const std::string& folder, EngineOptions options) {
  if (options.context == 0) options.context = 160;
  auto engine = Engine::Open(folder, options);
  EXPECT_TRUE(engine.has_value()) << engine.error().message;
  return std::move(engine).value();
}

class SchedulerTest : public ::testing::Test {
 protected:
  using Sink = std::shared_ptr<RecordingSink>;

  void Start(const SchedulerOptions& options = {}, const EngineOptions& engine = {.sequences = 8},
             const std::string& folder = Golden("v3-fp8").folder()) {
    scheduler_ = Scheduler::Start(Open(folder, engine), options).value();
  }
  // `count` of the golden text's tokens from `first` on, and round again.
  static std::vector<int32_t> Ids(size_t first, size_t count) {
    static const std::vector<int32_t> ids = Golden("v3-fp8").Ints("ids");
    std::vector<int32_t> some;
    for (size_t i = 0; i < count; ++i) some.push_back(ids[(first + i) % ids.size()]);
    return some;
  }
  static GenerationRequest Greedy(std::vector<int32_t> prompt, int64_t tokens, std::string client = "a") {
    GenerationRequest request;
    request.prompt = std::move(prompt);
    request.sampling.temperature = 0;
    request.max_tokens = tokens;
    request.client = std::move(client);
    return request;
  }
  RequestId Submit(const GenerationRequest& request, const Sink& sink) {
    const auto id = scheduler_->Submit(request, sink);
    EXPECT_TRUE(id.has_value()) << id.error().message;
    return id.value_or(0);
  }
  Sink Submit(const GenerationRequest& request) {
    auto sink = std::make_shared<RecordingSink>();
    Submit(request, sink);
    return sink;
  }
  // What the request gets on an engine of its own.
  static std::vector<int32_t> Alone(const GenerationRequest& r, const EngineOptions& options = {},
                                    const std::string& folder = Golden("v3-fp8").folder()) {
    const auto engine = Open(folder, options);
    Sequence sequence = engine->NewSequence();
    const GenerateOptions generate{
        .sampling = r.sampling, .max_tokens = r.max_tokens, .stop_tokens = r.stop_tokens};
    return Generate(*engine, &sequence, r.prompt, generate, [](int32_t) { return true; })->tokens;
  }
  // A request whose first token holds the scheduler's thread until `gate` opens.
  Sink Hold(Gate* gate) {
    auto sink = std::make_shared<RecordingSink>();
    sink->on_token = [gate](size_t) {
      gate->Pass();
      return false;
    };
    Submit(Greedy(Ids(0, 2), 2, "gate"), sink);
    gate->AwaitReached();
    return sink;
  }

  std::unique_ptr<Scheduler> scheduler_;
};

TEST_F(SchedulerTest, AnAnswerDoesNotDependOnHowManyAreServed) {
  for (const char* name : {"v3-fp8", "v3-int4-g32"}) {
    SCOPED_TRACE(name);
    const std::string folder = Golden(name).folder();
    std::vector<GenerationRequest> requests;
    std::vector<std::vector<int32_t>> want;
    for (size_t i = 0; i < 8; ++i) {
      requests.push_back(Greedy(Ids(7 * i, 3 + 9 * i), 20));
      // Sampling is of the request alone, too.
      if (i % 2 == 1) requests[i].sampling = {.temperature = 1, .seed = i};
      want.push_back(Alone(requests[i], {.prefill_chunk = 16}, folder));
    }
    Start({}, {.sequences = 8, .prefill_chunk = 16}, folder);
    for (size_t count = 1; count <= requests.size(); ++count) {
      std::vector<Sink> sinks;
      for (size_t i = 0; i < count; ++i) {
        requests[i].client = std::to_string(count);
        sinks.push_back(Submit(requests[i]));
      }
      for (size_t i = 0; i < count; ++i) {
        sinks[i]->Wait();
        EXPECT_EQ(sinks[i]->tokens, want[i]) << i << " of " << count;
        EXPECT_EQ(**sinks[i]->outcome, FinishReason::kLength);
        EXPECT_EQ(sinks[i]->usage.completion_tokens, 20);
        EXPECT_EQ(sinks[i]->dones, 1);
      }
    }
  }
}

TEST_F(SchedulerTest, TheTrainedModelAnswersAllAtOnceAsOneByOne) {
  const EngineOptions options{.context = 256, .sequences = 8, .prefill_chunk = 32};
  const auto vocab = Open(kTiny, options)->shape().vocab;
  std::vector<GenerationRequest> requests;
  std::vector<std::vector<int32_t>> want;
  for (int32_t i = 0; i < 8; ++i) {
    std::vector<int32_t> prompt;
    for (int32_t t = 0; t < 40 + 5 * i; ++t)
      prompt.push_back(static_cast<int32_t>((131 * i + 17 * t) % vocab));
    requests.push_back(Greedy(prompt, 30));
    want.push_back(Alone(requests.back(), {.context = 256, .prefill_chunk = 32}, kTiny));
  }
  Start({}, options, kTiny);
  std::vector<Sink> sinks;
  for (const GenerationRequest& request : requests) sinks.push_back(Submit(request));
  for (size_t i = 0; i < sinks.size(); ++i) {
    sinks[i]->Wait();
    EXPECT_EQ(sinks[i]->tokens, want[i]) << i;
  }
}

TEST_F(SchedulerTest, CancelEndsOneAndTouchesNoOther) {
  const GenerationRequest kept = Greedy(Ids(20, 30), 40);
  const GenerationRequest later = Greedy(Ids(60, 9), 12);
  Start({.running = 3, .chunk = 8}, {.sequences = 3, .prefill_chunk = 8});
  Gate gate;
  const Sink held = Hold(&gate);
  const Sink first = Submit(kept);
  const auto decoding = std::make_shared<RecordingSink>();
  const auto prompt = std::make_shared<RecordingSink>();
  const auto queued = std::make_shared<RecordingSink>();
  RequestId decoding_id = 0;
  RequestId prompt_id = 0;
  decoding->on_token = [&](size_t tokens) {
    if (tokens == 5) scheduler_->Cancel(decoding_id);
    return true;
  };
  prompt->on_prefill = [&](int64_t done) {
    if (done == 16) scheduler_->Cancel(prompt_id);
  };
  decoding_id = Submit(Greedy(Ids(0, 4), 100), decoding);
  prompt_id = Submit(Greedy(Ids(0, 100), 10), prompt);
  const RequestId queued_id = Submit(Greedy(Ids(3, 8), 10), queued);
  const Sink last = Submit(later);
  scheduler_->Cancel(queued_id);
  scheduler_->Cancel(9999);
  gate.Open();
  for (const Sink& sink : {first, decoding, prompt, queued, last}) sink->Wait();
  EXPECT_EQ(first->tokens, Alone(kept, {.prefill_chunk = 8}));
  EXPECT_EQ(last->tokens, Alone(later, {.prefill_chunk = 8}));
  for (const Sink& sink : {decoding, prompt, queued}) {
    ASSERT_TRUE(sink->outcome->has_value());
    EXPECT_EQ(**sink->outcome, FinishReason::kInterrupted);
  }
  EXPECT_EQ(decoding->tokens.size(), 5u) << "not one step more";
  EXPECT_EQ(prompt->prefill.size(), 2u) << "not one chunk more";
  EXPECT_TRUE(queued->prefill.empty());
  EXPECT_EQ(scheduler_->stats().cancelled, 3);
  EXPECT_EQ(scheduler_->stats().finished, 3);
}

TEST_F(SchedulerTest, OneClientsManyPromptsDoNotHoldUpAnother) {
  Start({.running = 2, .chunk = 8}, {.sequences = 2, .prefill_chunk = 8});
  Gate gate;
  Hold(&gate);
  std::vector<std::string> order;
  const auto logged = [&](const std::string& name) {
    auto sink = std::make_shared<RecordingSink>();
    sink->on_prefill = [&order, name](int64_t) { order.push_back(name); };
    sink->on_done = [&order, name] { order.push_back(fmt::format("{} done", name)); };
    return sink;
  };
  std::vector<Sink> sinks;
  for (int i = 0; i < 20; ++i) {
    sinks.push_back(logged(fmt::format("a{}", i)));
    Submit(Greedy(Ids(static_cast<size_t>(i), 96), 2, "a"), sinks.back());
  }
  sinks.push_back(logged("b"));
  Submit(Greedy(Ids(50, 24), 2, "b"), sinks.back());
  gate.Open();
  for (const Sink& sink : sinks) sink->Wait();
  // The gate's place goes to the client in turn; then both take turns chunk by chunk.
  const auto b_done = std::find(order.begin(), order.end(), "b done");
  EXPECT_LE(b_done - order.begin(), 8) << ::testing::PrintToString(order);
  EXPECT_EQ(std::count_if(order.begin(), b_done, [](const std::string& e) { return e.ends_with("done"); }),
            0);
}

TEST_F(SchedulerTest, PromptsTakeTurnsByClient) {
  Start({.running = 4, .chunk = 8}, {.sequences = 4, .prefill_chunk = 8});
  Gate gate;
  Hold(&gate);
  std::string order;
  std::vector<Sink> sinks;
  const auto submit = [&](char name, size_t first, const std::string& client) {
    auto sink = std::make_shared<RecordingSink>();
    sink->on_prefill = [&order, name](int64_t) { order += name; };
    sinks.push_back(sink);
    Submit(Greedy(Ids(first, 32), 1, client), sink);
  };
  submit('1', 0, "a");
  submit('2', 33, "a");
  submit('b', 66, "b");
  gate.Open();
  for (const Sink& sink : sinks) sink->Wait();
  EXPECT_EQ(order, "1b2b1b2b1212");
}

TEST_F(SchedulerTest, APromptGivesWayToAClientThatRunsNothing) {
  const GenerationRequest large = Greedy(Ids(0, 96), 6, "a");
  GenerationRequest other = large;
  other.prompt = Ids(20, 96);
  Start({.running = 2, .chunk = 8}, {.sequences = 2, .prefill_chunk = 8, .page_tokens = 8});
  const Sink first = Submit(large);
  const auto second = std::make_shared<RecordingSink>();
  const auto small = std::make_shared<RecordingSink>();
  bool second_done = false;
  bool small_was_first = false;
  second->on_prefill = [&](int64_t done) {
    if (done == 24) Submit(Greedy(Ids(5, 4), 3, "b"), small);
  };
  second->on_done = [&] { second_done = true; };
  small->on_done = [&] { small_was_first = !second_done; };
  Submit(other, second);
  for (const Sink& sink : {first, second, small}) sink->Wait();
  EXPECT_TRUE(small_was_first);
  EXPECT_EQ(first->tokens, Alone(large, {.prefill_chunk = 8}));
  EXPECT_EQ(second->tokens, Alone(other, {.prefill_chunk = 8}));
  EXPECT_EQ(second->prefill.size(), 12u) << "what was done is not done again";
  EXPECT_EQ(second->usage.cached_tokens, 0);
}

TEST_F(SchedulerTest, RefusesMoreThanMayWait) {
  Start({.running = 1, .queue = 2}, {.sequences = 2});
  Gate gate;
  const Sink held = Hold(&gate);
  const Sink one = Submit(Greedy(Ids(0, 4), 1));
  const Sink two = Submit(Greedy(Ids(0, 4), 1));
  const auto sink = std::make_shared<RecordingSink>();
  const auto refused = scheduler_->Submit(Greedy(Ids(0, 4), 1), sink);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::kBusy);
  EXPECT_THAT(refused.error().message, HasSubstr("1 requests run and 2 may wait"));
  EXPECT_EQ(scheduler_->stats().waiting, 2);
  EXPECT_EQ(scheduler_->stats().running, 1);
  gate.Open();
  one->Wait();
  two->Wait();
  EXPECT_EQ(sink->dones, 0);
  EXPECT_EQ(scheduler_->stats().refused, 1);
  scheduler_->Drain(std::chrono::hours(1));
  EXPECT_EQ(scheduler_->Submit(Greedy(Ids(0, 4), 1), sink).error().kind, ErrorKind::kBusy);
}

TEST_F(SchedulerTest, RefusesWhatCannotBe) {
  Start({}, {.context = 32});
  const auto refusal = [&](const GenerationRequest& request) {
    const auto id = scheduler_->Submit(request, std::make_shared<RecordingSink>());
    EXPECT_FALSE(id.has_value());
    EXPECT_EQ(id.error().kind, ErrorKind::kUsage);
    return id.error().message;
  };
  EXPECT_THAT(refusal(Greedy(Ids(0, 32), 1)), HasSubstr("32 tokens and the context 32"));
  EXPECT_THAT(refusal(Greedy({}, 1)), HasSubstr("empty"));
  EXPECT_THAT(refusal(Greedy({128}, 1)), HasSubstr("128 is outside the vocabulary of 128"));
  EXPECT_THAT(refusal(Greedy({1}, -1)), HasSubstr("max_tokens is -1"));
  GenerationRequest request = Greedy({1}, 1);
  request.stop_tokens = {-1};
  EXPECT_THAT(refusal(request), HasSubstr("stop token -1"));
  request = Greedy({1}, 1);
  request.sampling.top_p = 2;
  EXPECT_THAT(refusal(request), HasSubstr("top-p"));
  EXPECT_EQ(scheduler_->context(), 32);
  EXPECT_TRUE(scheduler_->Health().has_value());
  // All of the context, and no more.
  const Sink full = Submit(Greedy(Ids(0, 20), 0));
  full->Wait();
  EXPECT_EQ(full->tokens.size(), 12u);
}

TEST_F(SchedulerTest, ADeadlineEndsWhatIsTooLate) {
  Start({.running = 1}, {.sequences = 1});
  GenerationRequest request = Greedy(Ids(0, 4), 50);
  request.deadline = std::chrono::steady_clock::now() - std::chrono::seconds(1);
  const Sink queued = Submit(request);
  queued->Wait();
  ASSERT_FALSE(queued->outcome->has_value());
  EXPECT_EQ(queued->outcome->error().kind, ErrorKind::kInterrupted);
  EXPECT_THAT(queued->outcome->error().message,
              HasSubstr("deadline passed after 0 of the prompt's 4 tokens"));
  EXPECT_TRUE(queued->prefill.empty());

  const auto decoding = std::make_shared<RecordingSink>();
  request.deadline = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  decoding->on_token = [&](size_t tokens) {
    if (tokens == 3) std::this_thread::sleep_until(*request.deadline);
    return true;
  };
  Submit(request, decoding);
  decoding->Wait();
  EXPECT_EQ(decoding->tokens.size(), 3u);
  EXPECT_THAT(decoding->outcome->error().message,
              HasSubstr("deadline passed after 4 of the prompt's 4 tokens and 3 of the answer"));
  EXPECT_EQ(scheduler_->stats().failed, 2);
}

TEST_F(SchedulerTest, StopsWhereToldAndNotBefore) {
  Start();
  GenerationRequest request = Greedy(Ids(0, 10), 12);
  const std::vector<int32_t> want = Alone(request);
  request.stop_tokens = {want[4]};
  const auto at = std::find(want.begin(), want.end(), want[4]);
  Sink sink = Submit(request);
  sink->Wait();
  EXPECT_EQ(sink->tokens, std::vector<int32_t>(want.begin(), at));
  EXPECT_EQ(**sink->outcome, FinishReason::kStop);

  request.min_tokens = 10;
  request.client = "b";
  sink = Submit(request);
  sink->Wait();
  ASSERT_GE(sink->tokens.size(), 10u);
  EXPECT_EQ(std::vector<int32_t>(sink->tokens.begin(), sink->tokens.begin() + (at - want.begin())),
            std::vector<int32_t>(want.begin(), at));
  EXPECT_EQ(std::count(sink->tokens.begin(), sink->tokens.end(), want[4]), 0);

  sink = std::make_shared<RecordingSink>();
  sink->on_token = [](size_t tokens) { return tokens < 3; };
  Submit(Greedy(Ids(0, 10), 12, "c"), sink);
  sink->Wait();
  EXPECT_EQ(sink->tokens, std::vector<int32_t>(want.begin(), want.begin() + 3));
  EXPECT_EQ(**sink->outcome, FinishReason::kStop);
}

TEST_F(SchedulerTest, LogprobsAreOfTheModelsDistribution) {
  const std::vector<int32_t> prompt = Ids(10, 40);
  const EngineOptions options{.prefill_chunk = 16};
  const auto engine = Open(Golden("v3-fp8").folder(), options);
  const auto vocab = static_cast<size_t>(engine->shape().vocab);
  std::vector<float> logits;
  Sequence sequence = engine->NewSequence();
  ASSERT_TRUE(engine
                  ->Score(&sequence, prompt,
                          [&](int64_t, std::span<const float> rows) {
                            logits.insert(logits.end(), rows.begin(), rows.end());
                            return Status();
                          })
                  .has_value());
  const auto logprob = [&](size_t row, int32_t token) {
    double sum = 0;
    for (size_t i = 0; i < vocab; ++i) sum += std::exp(static_cast<double>(logits[row * vocab + i]));
    return static_cast<double>(logits[row * vocab + static_cast<size_t>(token)]) - std::log(sum);
  };

  Start({}, options);
  GenerationRequest request = Greedy(prompt, 5);
  request.top_logprobs = 4;
  request.prompt_logprobs = true;
  // Penalties change the choice, not what the model says.
  request.sampling.repetition_penalty = 1.3f;
  const Sink sink = Submit(request);
  sink->Wait();
  ASSERT_EQ(sink->prompt_logprobs.size(), prompt.size() - 1);
  for (size_t i = 1; i < prompt.size(); ++i) {
    const auto& [index, of] = sink->prompt_logprobs[i - 1];
    EXPECT_EQ(index, static_cast<int64_t>(i));
    EXPECT_NEAR(of.logprob, logprob(i - 1, prompt[i]), 1e-5) << i;
    EXPECT_EQ(of.best.size(), 4u);
  }
  ASSERT_EQ(sink->logprobs.size(), 5u);
  const TokenLogprobs& first = sink->logprobs.front();
  EXPECT_NEAR(first.logprob, logprob(prompt.size() - 1, sink->tokens[0]), 1e-5);
  for (size_t i = 0; i < first.best.size(); ++i) {
    EXPECT_NEAR(first.best[i].second, logprob(prompt.size() - 1, first.best[i].first), 1e-5);
    EXPECT_GE(first.best[i == 0 ? 0 : i - 1].second, first.best[i].second);
  }
  request.prompt_logprobs = false;
  request.top_logprobs = -1;
  request.client = "b";
  const Sink without = Submit(request);
  without->Wait();
  EXPECT_EQ(without->tokens, sink->tokens);
  EXPECT_TRUE(without->logprobs.empty());
}

TEST_F(SchedulerTest, DrainLetsFinishWhatItCan) {
  Start({.running = 2}, {.sequences = 2});
  std::vector<Sink> sinks;
  for (size_t i = 0; i < 5; ++i) sinks.push_back(Submit(Greedy(Ids(i, 10), 10)));
  scheduler_->Drain(std::chrono::hours(1));
  for (const Sink& sink : sinks) EXPECT_EQ(sink->tokens.size(), 10u);
  EXPECT_EQ(scheduler_->stats().finished, 5);
  EXPECT_EQ(scheduler_->stats().running, 0);
  EXPECT_GT(scheduler_->stats().engine.rows, 50);

  Start({.running = 1}, {.sequences = 1});
  Gate gate;
  const Sink held = Hold(&gate);
  const Sink waiting = Submit(Greedy(Ids(0, 10), 10));
  std::thread opener([&] {
    // Until it drains, others still come in.
    for (Result<RequestId> id = 0; id.has_value() || !id.error().message.starts_with("shutting down");)
      id = scheduler_->Submit(Greedy({1}, 1), std::make_shared<RecordingSink>());
    gate.Open();
  });
  scheduler_->Drain(std::chrono::milliseconds(0));
  opener.join();
  EXPECT_EQ(waiting->dones, 1);
  EXPECT_EQ(**waiting->outcome, FinishReason::kInterrupted);
}

TEST_F(SchedulerTest, EndingCancelsAll) {
  Start({.running = 2}, {.sequences = 2});
  std::vector<Sink> sinks;
  for (size_t i = 0; i < 5; ++i) sinks.push_back(Submit(Greedy(Ids(i, 60), 0)));
  scheduler_.reset();
  for (const Sink& sink : sinks) {
    EXPECT_EQ(sink->dones, 1);
    EXPECT_TRUE(sink->outcome->has_value());
  }
}

}  // namespace
}  // namespace moraine
