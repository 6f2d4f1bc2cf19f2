// Answer: one request for text from its prompts to the last byte of its answer, streamed or whole.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "runtime/scheduler.h"
#include "runtime/server/http/http_server.h"
#include "runtime/server/metrics.h"
#include "runtime/server/openai/answer_format.h"
#include "runtime/server/openai/response.h"
#include "runtime/server/served_model.h"

namespace moraine {

/// What is asked for, ready for the scheduler.
struct AnswerPlan {
  std::unique_ptr<AnswerFormat> format;
  std::string model;      // its name in the answer
  bool stream = false;    // as the format was made
  bool chat = true;       // reasoning and calls are told from text
  bool thinking = false;  // the prompt ends inside a think block
  std::optional<ToolReading> tools;
  bool echo = false;
  bool only_echo = false;
  bool return_token_ids = false;
  std::vector<std::string> stops;
  int32_t choices_per_prompt = 1;
  std::vector<GenerationRequest> choices;  // in the order of their index: all of one prompt, then the next's
};

/// Fed by the scheduler's thread, started by another; the client's leaving cancels all its choices. An error
/// of one choice ends the answer with that error.
class Answer : public std::enable_shared_from_this<Answer> {
 public:
  /// `model` and `metrics` are borrowed and outlive the scheduler.
  Answer(ServedModel* model, ServerMetrics* metrics, AnswerPlan plan,
         std::shared_ptr<HttpResponder> responder);

  /// Submits every choice. Answers itself when the scheduler refuses one.
  void Start();

 private:
  class Sink;
  struct Choice {
    ChoiceText text;
    LogprobWriter logprobs;
    std::vector<int32_t> pending_ids;  // given on with the next text
    bool wants_logprobs = false;
    std::optional<RequestId> id;
    std::chrono::steady_clock::time_point last_token;
    int64_t tokens = 0;
  };

  bool OnToken(size_t index, int32_t id, const TokenLogprobs* logprobs);
  void OnStopToken(size_t index, int32_t id, const TokenLogprobs& logprobs);
  void OnPromptToken(size_t index, int64_t position, const TokenLogprobs& logprobs);
  void OnDone(size_t index, const Result<FinishReason>& outcome, const GenerationUsage& usage);

  // With mutex_ held.
  void AddUsage(size_t index, const GenerationUsage& usage);
  void Emit(const std::string& events);
  void Give(size_t index, TextPiece piece, const std::string& finish_reason);
  void Finish();
  void Fail(const ApiError& error);

  void CancelAll();

  ServedModel* const model_;
  ServerMetrics* const metrics_;
  AnswerPlan plan_;
  const std::shared_ptr<HttpResponder> responder_;
  const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();

  std::mutex mutex_;
  std::vector<Choice> choices_;
  AnswerUsage usage_;
  size_t open_ = 0;       // choices under way
  bool started_ = false;  // all choices are with the scheduler
  bool ended_ = false;    // answered, or nobody is there
  std::string early_;     // events from before the start
  std::optional<ApiError> early_error_;
};

}  // namespace moraine
