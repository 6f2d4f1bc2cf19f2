// A GenerationSink that keeps what it hears, and lets a test act, or hold the scheduler's thread, at any of
// it.
#pragma once

#include <cstdint>
#include <functional>
#include <future>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "runtime/scheduler.h"

namespace moraine::test {

class RecordingSink final : public GenerationSink {
 public:
  /// Called on the scheduler's thread after each event was kept. May be empty.
  std::function<void(int64_t done)> on_prefill;
  std::function<bool(size_t tokens)> on_token;
  std::function<void()> on_done;

  void OnPrefill(int64_t done, int64_t total) override {
    prefill.emplace_back(done, total);
    if (on_prefill) on_prefill(done);
  }
  void OnPromptToken(int64_t index, const TokenLogprobs& of) override {
    prompt_logprobs.emplace_back(index, of);
  }
  bool OnToken(int32_t id, const TokenLogprobs* of) override {
    tokens.push_back(id);
    if (of != nullptr) logprobs.push_back(*of);
    return !on_token || on_token(tokens.size());
  }
  void OnDone(Result<FinishReason> result, const GenerationUsage& used) override {
    ++dones;
    outcome = std::move(result);
    usage = used;
    if (on_done) on_done();
    if (dones == 1) done_.set_value();
  }

  /// After it everything below may be read.
  void Wait() { done_.get_future().wait(); }

  std::vector<std::pair<int64_t, int64_t>> prefill;
  std::vector<std::pair<int64_t, TokenLogprobs>> prompt_logprobs;
  std::vector<int32_t> tokens;
  std::vector<TokenLogprobs> logprobs;
  std::optional<Result<FinishReason>> outcome;
  GenerationUsage usage;
  int dones = 0;

 private:
  std::promise<void> done_;
};

/// Holds one thread until another lets it go.
class Gate {
 public:
  /// The first caller waits here; those after Open pass.
  void Pass() {
    reached_.set_value();
    open_.get_future().wait();
  }
  void AwaitReached() { reached_.get_future().wait(); }
  void Open() { open_.set_value(); }

 private:
  std::promise<void> reached_;
  std::promise<void> open_;
};

}  // namespace moraine::test
