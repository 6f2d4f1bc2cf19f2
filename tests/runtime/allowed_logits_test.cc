// runtime/allowed_logits.h and the scheduler's use of masks.
#include "runtime/allowed_logits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/scheduler.h"
#include "tests/support/golden.h"
#include "tests/support/recording_sink.h"

namespace moraine {
namespace {

using test::Golden;
using test::RecordingSink;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(AllowedLogits, BiasIsAddedAndTheRestForbidden) {
  std::vector<float> logits(70, 1.f);
  const std::vector<std::pair<int32_t, float>> bias = {{2, 3.f}, {69, -100.f}};
  AddBias(bias, logits);
  EXPECT_EQ(logits[2], 4.f);
  EXPECT_EQ(logits[69], -99.f);
  Forbid(std::vector<int32_t>{2}, logits);
  KeepAllowed({}, logits);
  EXPECT_TRUE(std::isinf(logits[2]) && !std::isinf(logits[3]));
  const std::vector<uint64_t> allowed = {~uint64_t{0}, uint64_t{1} << 5};
  KeepAllowed(allowed, logits);
  EXPECT_TRUE(std::isinf(logits[2]) && std::isinf(logits[64])) << "what was forbidden stays so";
  EXPECT_TRUE(logits[3] == 1.f && logits[69] == -99.f);
}

TEST(AllowedLogits, BiasesAreChecked) {
  const auto message = [](int32_t token, float value) {
    const std::vector<std::pair<int32_t, float>> bias = {{token, value}};
    const Status status = CheckBias(bias, 10);
    return status.has_value() ? "" : status.error().message;
  };
  EXPECT_EQ(message(9, -100), "");
  EXPECT_THAT(message(10, 1), HasSubstr("token 10"));
  EXPECT_THAT(message(-1, 1), HasSubstr("token -1"));
  EXPECT_THAT(message(1, NAN), HasSubstr("finite"));
}

// Allows one token after the other, and then no more.
class OneByOne : public TokenMask {
 public:
  OneByOne(std::vector<int32_t> tokens, int64_t vocab)
      : tokens_(std::move(tokens)), words_((static_cast<size_t>(vocab) + 63) / 64) {}
  std::span<const uint64_t> Allowed() override {
    mask_.assign(words_, 0);
    const auto token = static_cast<size_t>(tokens_[at_]);
    mask_[token / 64] |= uint64_t{1} << (token % 64);
    return mask_;
  }
  bool Accept(int32_t token) override {
    EXPECT_EQ(token, tokens_[at_]);
    return ++at_ < tokens_.size();
  }

 private:
  const std::vector<int32_t> tokens_;
  const size_t words_;
  size_t at_ = 0;
  std::vector<uint64_t> mask_;
};

class MaskedRequest : public ::testing::Test {
 protected:
  MaskedRequest() {
    auto engine = Engine::Open(Golden("v3-fp8").folder(), {.context = 160, .sequences = 2});
    vocab_ = (*engine)->shape().vocab;
    scheduler_ = *Scheduler::Start(*std::move(engine), {});
    request_.prompt = {1, 2, 3};
    request_.max_tokens = 20;
  }
  std::shared_ptr<RecordingSink> Run() {
    auto sink = std::make_shared<RecordingSink>();
    EXPECT_TRUE(scheduler_->Submit(request_, sink).has_value());
    sink->Wait();
    return sink;
  }

  int64_t vocab_ = 0;
  std::unique_ptr<Scheduler> scheduler_;
  GenerationRequest request_;
};

TEST_F(MaskedRequest, SaysWhatItsMaskAllowsAndEndsWithIt) {
  for (const float temperature : {0.f, 3.f}) {
    request_.sampling = {.temperature = temperature, .top_k = 1, .top_p = 0.1f, .min_p = 0.9f};
    request_.mask = std::make_shared<OneByOne>(std::vector<int32_t>{5, 77, 0, 5}, vocab_);
    request_.min_tokens = 10;
    request_.top_logprobs = 0;
    const auto sink = Run();
    EXPECT_THAT(sink->tokens, ElementsAre(5, 77, 0, 5));
    EXPECT_EQ(**sink->outcome, FinishReason::kStop) << "the text is whole, whatever min_tokens says";
    for (const TokenLogprobs& of : sink->logprobs) EXPECT_TRUE(std::isfinite(of.logprob));
  }
}

TEST_F(MaskedRequest, MayBeCut) {
  request_.mask = std::make_shared<OneByOne>(std::vector<int32_t>(50, 7), vocab_);
  const auto sink = Run();
  EXPECT_EQ(sink->tokens.size(), 20u);
  EXPECT_EQ(**sink->outcome, FinishReason::kLength);
}

TEST_F(MaskedRequest, BiasChoosesAndIsChecked) {
  request_.sampling.temperature = 0;
  request_.logit_bias = {{9, 1e6f}};
  EXPECT_EQ(Run()->tokens, std::vector<int32_t>(20, 9));
  request_.logit_bias = {{static_cast<int32_t>(vocab_), 1.f}};
  const auto refused = scheduler_->Submit(request_, std::make_shared<RecordingSink>());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().kind, ErrorKind::kUsage);
}

}  // namespace
}  // namespace moraine
