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
    Choice choice{.text = plan_.head.chat ? ChoiceText::Chat(tokenizer, plan_.thinking, plan_.stops)
                                          : ChoiceText::Plain(tokenizer, plan_.stops),
                  .logprobs = LogprobWriter(tokenizer),
                  .wants_logprobs = request.top_logprobs >= 0};
    if (plan_.echo) {
      choice.whole.content = Decode(tokenizer, request.prompt, {.skip_special = true});
      if (choice.wants_logprobs) choice.logprobs.Add(request.prompt.front(), nullptr);
    }
    if (plan_.return_token_ids) {
      choice.whole.token_ids.emplace();
      choice.whole.prompt_ids = request.prompt;
    }
    choices_.push_back(std::move(choice));
  }
  open_ = choices_.size();
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
  EmitPiece(index, choice.text.Push(id), "");
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
      EmitPiece(index, choices_[index].text.Finish(), plan_.only_echo ? "length" : Name(*outcome));
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

void Answer::Emit(const std::string& event) {
  if (started_) {
    responder_->Write(event);
  } else {
    early_ += event;
  }
}

void Answer::EmitPiece(size_t index, TextPiece piece, const std::string& finish_reason) {
  Choice& choice = choices_[index];
  if (!plan_.stream) {
    choice.whole.reasoning += piece.reasoning;
    choice.whole.content += piece.content;
    choice.whole.finish_reason = finish_reason;
    if (plan_.return_token_ids) {
      auto& ids = *choice.whole.token_ids;
      ids.insert(ids.end(), choice.pending_ids.begin(), choice.pending_ids.end());
      choice.pending_ids.clear();
    }
    return;
  }
  if (!std::exchange(choice.said_role, true) && plan_.head.chat)
    Emit(Event(Chunk(plan_.head, {.index = static_cast<int32_t>(index), .first = true})));
  if (!piece.reasoning.empty() || !piece.content.empty()) {
    ChunkParts parts{.index = static_cast<int32_t>(index), .piece = std::move(piece)};
    if (!choice.logprobs.empty()) parts.logprobs = choice.logprobs.Take(plan_.head.chat);
    parts.token_ids = std::exchange(choice.pending_ids, {});
    Emit(Event(Chunk(plan_.head, parts)));
  }
  if (finish_reason.empty()) return;
  ChunkParts last{.index = static_cast<int32_t>(index), .finish_reason = finish_reason};
  if (!choice.logprobs.empty()) last.logprobs = choice.logprobs.Take(plan_.head.chat);
  last.token_ids = std::exchange(choice.pending_ids, {});
  Emit(Event(Chunk(plan_.head, last)));
}

void Answer::Finish() {
  if (!started_ && !plan_.stream) return;  // Start sends it
  if (plan_.stream) {
    if (plan_.include_usage) Emit(Event(UsageChunk(plan_.head, usage_)));
    Emit(Event("[DONE]"));
    if (started_) responder_->End();
  } else {
    std::vector<WholeChoice> whole;
    for (Choice& choice : choices_) {
      if (choice.wants_logprobs) choice.whole.logprobs = choice.logprobs.Take(plan_.head.chat);
      whole.push_back(std::move(choice.whole));
    }
    responder_->Send({.body = WholeAnswer(plan_.head, whole, usage_)});
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
  responder_->Write(Event(ErrorBody(error)));
  responder_->Write(Event("[DONE]"));
  responder_->End();
}

}  // namespace moraine
