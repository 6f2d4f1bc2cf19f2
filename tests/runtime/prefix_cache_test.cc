// Kept sequences under a scheduler: who finds them, what is counted, who makes room.
#include "runtime/prefix_cache.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "runtime/generate.h"
#include "runtime/scheduler.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/detokenizer.h"
#include "runtime/text/tokenizer.h"
#include "tests/support/golden.h"
#include "tests/support/recording_sink.h"

namespace moraine {
namespace {

using test::Golden;
using test::RecordingSink;

const std::string kTiny = MORAINE_SOURCE_DIR "/models/tiny-r1";
constexpr int32_t kPage = 8;

std::unique_ptr<Engine> Open(const std::string& folder, const EngineOptions& options) {
  auto engine = Engine::Open(folder, options);
  EXPECT_TRUE(engine.has_value()) << engine.error().message;
  return std::move(engine).value();
}

// Prompts go row by row, so that what begins in the middle has the bits of what begins at the start.
EngineOptions RowByRow(int32_t sequences) {
  return {.context = 160, .sequences = sequences, .prefill_chunk = sequences, .page_tokens = kPage};
}

class PrefixCacheTest : public ::testing::Test {
 protected:
  void Start(const EngineOptions& engine, const SchedulerOptions& options = {},
             const std::string& folder = Golden("v3-fp8").folder()) {
    engine_ = engine;
    folder_ = folder;
    scheduler_ = Scheduler::Start(Open(folder, engine), options).value();
  }
  static GenerationRequest Greedy(std::vector<int32_t> prompt, int64_t tokens, std::string client) {
    GenerationRequest request;
    request.prompt = std::move(prompt);
    request.sampling.temperature = 0;
    request.max_tokens = tokens;
    request.client = std::move(client);
    return request;
  }
  // Runs to its end; checks that it got what a fresh engine gives.
  std::shared_ptr<RecordingSink> Run(const GenerationRequest& request) {
    auto sink = std::make_shared<RecordingSink>();
    EXPECT_TRUE(scheduler_->Submit(request, sink).has_value());
    sink->Wait();
    EXPECT_TRUE(sink->outcome->has_value()) << sink->outcome->error().message;
    EXPECT_EQ(sink->tokens, Fresh(request));
    return sink;
  }
  std::vector<int32_t> Fresh(const GenerationRequest& request) const {
    const auto engine = Open(folder_, engine_);
    Sequence sequence = engine->NewSequence();
    const GenerateOptions options{
        .sampling = request.sampling, .max_tokens = request.max_tokens, .stop_tokens = request.stop_tokens};
    return Generate(*engine, &sequence, request.prompt, options, [](int32_t) { return true; })->tokens;
  }
  static std::vector<int32_t> Ids(size_t first, size_t count) {
    const std::vector<int32_t> ids = Golden("v3-fp8").Ints("ids");
    std::vector<int32_t> some;
    for (size_t i = 0; i < count; ++i) some.push_back(ids[(first + i) % ids.size()]);
    return some;
  }
  static std::vector<int32_t> Join(std::vector<int32_t> a, const std::vector<int32_t>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  }

  EngineOptions engine_;
  std::string folder_;
  std::unique_ptr<Scheduler> scheduler_;
};

TEST_F(PrefixCacheTest, TheNextTurnBeginsWhereTheyPart) {
  Start(RowByRow(1));
  const std::vector<int32_t> first = Ids(0, 21);
  const auto answer = Run(Greedy(first, 10, "a"));
  EXPECT_EQ(answer->usage.cached_tokens, 0);
  // The whole turn, and more.
  const std::vector<int32_t> turn = Join(first, answer->tokens);
  EXPECT_EQ(Run(Greedy(Join(turn, Ids(40, 5)), 8, "a"))->usage.cached_tokens, 30)
      << "the answer's last token was never run";
  // A turn whose middle was dropped: the prompt, 4 tokens of the answer, then another text.
  std::vector<int32_t> dropped(turn.begin(), turn.begin() + 25);
  dropped.push_back((turn[25] + 1) % 128);
  EXPECT_EQ(Run(Greedy(Join(dropped, Ids(50, 12)), 8, "a"))->usage.cached_tokens, 25);
  // The same again: one token is left to compute.
  EXPECT_EQ(Run(Greedy(first, 10, "a"))->usage.cached_tokens, 20);
  // Less than a page is not worth it.
  EXPECT_EQ(Run(Greedy(Join(Ids(0, kPage - 1), Ids(70, 6)), 4, "a"))->usage.cached_tokens, 0);
  EXPECT_EQ(scheduler_->stats().cached_tokens, 30 + 25 + 20);
}

TEST_F(PrefixCacheTest, NobodyElseFindsIt) {
  Start(RowByRow(2));
  const std::vector<int32_t> prompt = Ids(0, 30);
  EXPECT_EQ(Run(Greedy(prompt, 5, "a"))->usage.cached_tokens, 0);
  EXPECT_EQ(Run(Greedy(prompt, 5, "b"))->usage.cached_tokens, 0);
  EXPECT_EQ(Run(Greedy(prompt, 5, ""))->usage.cached_tokens, 0);
  EXPECT_EQ(Run(Greedy(prompt, 5, "a"))->usage.cached_tokens, 29);
}

TEST_F(PrefixCacheTest, RequestsUnderWayShareTheirPrompt) {
  Start(RowByRow(3));
  const std::vector<int32_t> system = Ids(0, 35);
  const auto one = Greedy(Join(system, Ids(60, 4)), 20, "a");
  const auto two = Greedy(Join(system, Ids(71, 4)), 20, "a");
  const auto first = std::make_shared<RecordingSink>();
  const auto second = std::make_shared<RecordingSink>();
  first->on_token = [&](size_t tokens) { return tokens != 3 || scheduler_->Submit(two, second).has_value(); };
  ASSERT_TRUE(scheduler_->Submit(one, first).has_value());
  first->Wait();
  second->Wait();
  EXPECT_EQ(second->usage.cached_tokens, 32) << "whole pages of a prompt under way";
  EXPECT_EQ(first->tokens, Fresh(one));
  EXPECT_EQ(second->tokens, Fresh(two));
}

TEST_F(PrefixCacheTest, TheOldestMakesRoom) {
  Start(RowByRow(2));  // 40 pages
  for (size_t i = 0; i < 6; ++i) EXPECT_EQ(Run(Greedy(Ids(13 * i, 90), 8, "a"))->usage.cached_tokens, 0);
  EXPECT_EQ(Run(Greedy(Ids(13 * 5, 90), 8, "a"))->usage.cached_tokens, 89) << "the newest is there";
  EXPECT_EQ(Run(Greedy(Ids(0, 90), 8, "a"))->usage.cached_tokens, 0) << "the oldest is not";
  // Two that fill every page of the cache.
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (size_t i = 0; i < 2; ++i) {
    sinks.push_back(std::make_shared<RecordingSink>());
    ASSERT_TRUE(scheduler_->Submit(Greedy(Ids(3 + i, 100), 0, "b"), sinks.back()).has_value());
  }
  for (const auto& sink : sinks) {
    sink->Wait();
    ASSERT_TRUE(sink->outcome->has_value()) << sink->outcome->error().message;
    EXPECT_EQ(sink->tokens.size(), 60u);
  }
}

// With the usual chunks and kernels the values are equal within rounding: the trained model's answers are the
// same.
TEST_F(PrefixCacheTest, AChatDropsItsThinkingAndGoesOn) {
  const auto tokenizer = Tokenizer::Open(kTiny + "/tokenizer.json");
  const auto chat = ChatTemplate::ForModel(kTiny);
  ASSERT_TRUE(tokenizer.has_value() && chat.has_value());
  Start({.context = 512, .sequences = 2, .page_tokens = 4}, {}, kTiny);
  std::vector<Message> messages;
  int64_t before = 0;
  for (const char* question : {"348 + 275", "80 - 345", "17 + 2", "512 - 97"}) {
    SCOPED_TRACE(question);
    messages.push_back({.role = "user", .content = question});
    GenerationRequest request = Greedy(EncodeChat(**tokenizer, *chat->Render(messages, {})), 100, "a");
    const auto size = static_cast<int64_t>(request.prompt.size());
    request.stop_tokens = scheduler_->shape().eos_tokens;
    const auto sink = Run(request);
    EXPECT_EQ(**sink->outcome, FinishReason::kStop);
    // All of the last prompt is there, but perhaps the thinking it opened.
    EXPECT_GE(sink->usage.cached_tokens, before - 2);
    EXPECT_LT(sink->usage.cached_tokens, size);
    before = size;
    messages.push_back({.role = "assistant", .content = Decode(**tokenizer, sink->tokens)});
  }
}

}  // namespace
}  // namespace moraine
