#include "runtime/server/answer.h"

#include <utility>

namespace moraine {

class Answer::Sink : public GenerationSink {
 public:
  Sink(std::shared_ptr<Answer> answer, size_t index) : answer_(std::move(answer)), index_(index) {}
  void OnPromptToken(int64_t position, const TokenLogprobs& logprobs) override {
    answer_->OnPromptToken(index_, position, logprobs);
  }
  bool OnToken(int32_t id, const TokenLogprobs* logprobs) override {
    return answer_->OnToken(index_, id, logprobs);
  }
  void OnStopToken(int32_t id, const TokenLogprobs& logprobs) override {
    answer_->OnStopToken(index_, id, logprobs);
  }
  void OnDone(Result<FinishReason> outcome, const GenerationUsage& usage) override {
    answer_->OnDone(index_, outcome, usage);
  }

 private:
  const std::shared_ptr<Answer> answer_;
  const size_t index_;
};

Answer::Answer(ServedModel* model, ServerMetrics* metrics, AnswerPlan plan,
               std::shared_ptr<HttpResponder> responder)
    : model_(model), metrics_(metrics), plan_(std::move(plan)), responder_(std::move(responder)) {
  const Tokenizer& tokenizer = *model_->text.tokenizer;
  for (const GenerationRequest& request : plan_.choices) {
    Choice choice{.text = plan_.chat ? ChoiceText::Chat(tokenizer, plan_.thinking, plan_.stops, plan_.tools)
                                     : ChoiceText::Plain(tokenizer, plan_.stops),
                  .logprobs = LogprobWriter(tokenizer),
                  .wants_logprobs = request.top_logprobs >= 0};
    if (plan_.echo && choice.wants_logprobs) choice.logprobs.Add(request.prompt.front(), nullptr);
    choices_.push_back(std::move(choice));
    if (!plan_.echo) continue;
    ChoicePart prompt;
    prompt.piece.content = Decode(tokenizer, request.prompt, {.skip_special = true});
    plan_.format->Add(choices_.size() - 1, std::move(prompt));
  }
  open_ = choices_.size();
  if (plan_.stream) early_ = plan_.format->Begin();
}

void Answer::Start() {
  std::optional<ApiError> refused;
  for (size_t i = 0; i < choices_.size() && !refused; ++i) {
    auto id = model_->scheduler->Submit(plan_.choices[i], std::make_shared<Sink>(shared_from_this(), i));
    const std::lock_guard lock(mutex_);
    if (id.has_value()) {
      choices_[i].id = *id;
    } else {
      refused = FromError(id.error());
    }
  }
  bool ended = false;
  {
    const std::lock_guard lock(mutex_);
    if (refused) early_error_ = std::move(refused);
    started_ = true;
    if (early_error_) {
      ++metrics_->rejected;
      responder_->Send(ErrorResponse(*early_error_));
      ended_ = true;
    } else if (plan_.stream) {
      responder_->Begin();
      responder_->Write(std::exchange(early_, {}));
      if (open_ == 0) responder_->End();
    } else if (open_ == 0) {
      Finish();
    }
    ended = ended_;
  }
  if (ended) return CancelAll();
  responder_->OnGone([weak = weak_from_this()] {
    if (const auto answer = weak.lock()) answer->CancelAll();
  });
}

void Answer::CancelAll() {
  std::vector<RequestId> ids;
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    for (const Choice& choice : choices_) {
      if (choice.id) ids.push_back(*choice.id);
    }
  }
  for (const RequestId id : ids) model_->scheduler->Cancel(id);
}

void Answer::OnPromptToken(size_t index, int64_t position, const TokenLogprobs& logprobs) {
  const std::lock_guard lock(mutex_);
  if (!plan_.echo) return;
  choices_[index].logprobs.Add(plan_.choices[index].prompt[static_cast<size_t>(position)], &logprobs);
}

// lm-eval asks for one token behind the prompt it scores and drops the last entry of what comes back: so
// there has to be one, also where the text ends at once.
void Answer::OnStopToken(size_t index, int32_t id, const TokenLogprobs& logprobs) {
  const std::lock_guard lock(mutex_);
  if (plan_.echo && !plan_.only_echo && choices_[index].wants_logprobs)
    choices_[index].logprobs.Add(id, &logprobs);
}

bool Answer::OnToken(size_t index, int32_t id, const TokenLogprobs* logprobs) {
  const auto now = std::chrono::steady_clock::now();
  const std::lock_guard lock(mutex_);
  if (ended_) return true;  // the cancellation is on its way
  Choice& choice = choices_[index];
  const auto since = [&](auto before) { return std::chrono::duration<double>(now - before).count(); };
  if (choice.tokens++ == 0) {
    metrics_->first_token.Add(since(began_));
  } else {
    metrics_->inter_token.Add(since(choice.last_token));
  }
  choice.last_token = now;
  if (plan_.only_echo) return false;
  if (choice.wants_logprobs && logprobs != nullptr) choice.logprobs.Add(id, logprobs);
  if (plan_.return_token_ids) choice.pending_ids.push_back(id);
  Give(index, choice.text.Push(id), "");
  return !choice.text.stopped();
}

void Answer::OnDone(size_t index, const Result<FinishReason>& outcome, const GenerationUsage& usage) {
  bool failed = false;
  {
    const std::lock_guard lock(mutex_);
    --open_;
    AddUsage(index, usage);
    if (ended_) return;
    if (!outcome.has_value()) {
      failed = true;
      Fail(FromError(outcome.error()));
    } else if (*outcome == FinishReason::kInterrupted) {
      failed = true;
      Fail(FromError(Error{ErrorKind::kInterrupted, "the server stops, and stopped this answer"}));
    } else {
      ChoiceText& text = choices_[index].text;
      TextPiece last = text.Finish();
      std::string reason = plan_.only_echo ? "length" : Name(*outcome);
      if (text.has_calls() && *outcome == FinishReason::kStop) reason = "tool_calls";
      Give(index, std::move(last), reason);
      if (open_ == 0) Finish();
    }
  }
  if (failed) CancelAll();
}

void Answer::AddUsage(size_t index, const GenerationUsage& usage) {
  const Choice& choice = choices_[index];
  // Several choices of one prompt count it once.
  if (index % static_cast<size_t>(plan_.choices_per_prompt) == 0) {
    usage_.prompt_tokens += usage.prompt_tokens;
    usage_.cached_tokens += usage.cached_tokens;
  }
  usage_.completion_tokens += plan_.only_echo ? 0 : usage.completion_tokens;
  usage_.reasoning_tokens += choice.text.reasoning_tokens();
  usage_.queue_seconds += usage.queue_seconds;
  usage_.prefill_seconds += usage.prefill_seconds;
  usage_.decode_seconds += usage.decode_seconds;
}

void Answer::Emit(const std::string& events) {
  if (!started_) {
    early_ += events;
  } else if (!events.empty()) {
    responder_->Write(events);
  }
}

void Answer::Give(size_t index, TextPiece piece, const std::string& finish_reason) {
  Choice& choice = choices_[index];
  const bool last = !finish_reason.empty();
  const bool says = !piece.reasoning.empty() || !piece.content.empty() || !piece.calls.empty();
  ChoicePart part;
  part.piece = std::move(piece);
  part.finish_reason = finish_reason;
  if (last || (plan_.stream && says)) {
    part.token_ids = std::exchange(choice.pending_ids, {});
    if (!choice.logprobs.empty() || (choice.wants_logprobs && !plan_.stream))
      part.logprobs = choice.logprobs.Take(plan_.chat);
  }
  Emit(plan_.format->Add(index, std::move(part)));
}

void Answer::Finish() {
  if (!started_ && !plan_.stream) return;  // Start sends it
  std::string end = plan_.format->Finish(usage_);
  if (plan_.stream) {
    Emit(end);
    if (started_) responder_->End();
  } else {
    responder_->Send({.body = std::move(end)});
  }
  ended_ = started_;
}

void Answer::Fail(const ApiError& error) {
  if (!started_) {
    early_error_ = error;
    return;
  }
  ended_ = true;
  ++metrics_->rejected;
  if (!plan_.stream) return responder_->Send(ErrorResponse(error));
  responder_->Write(plan_.format->Fail(error));
  responder_->End();
}

}  // namespace moraine
