// Api: the endpoints. Finds the one a request means, checks the request, answers.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#include "runtime/server/http/http_server.h"
#include "runtime/server/metrics.h"
#include "runtime/server/openai/api_error.h"
#include "runtime/server/openai/generation_fields.h"
#include "runtime/server/served_model.h"
#include "runtime/server/work_thread.h"

namespace moraine {

struct AnswerHead;
struct AnswerPlan;
struct ChatRequest;

struct ApiOptions {
  std::vector<std::string> names;  // the model's, the first in answers; at least one
  /// POST /policy: reads the policy again; gives what has changed, as a JSON object. Called on a thread of
  /// the Api's own. Required.
  std::function<Result<std::string>()> reload;
  bool page = false;  // answer "/" with a page for browsers
};

/// Any thread may call anything; nothing blocks. Before SetModel every endpoint that needs the model answers
/// 503 with how far loading is. What a client sends is never a path, a URL or code.
class Api {
 public:
  explicit Api(ApiOptions options);
  /// The server that calls Handle has stopped by then. Ends the model's scheduler, and with it every answer.
  ~Api();

  /// For HttpServer::Start.
  void Handle(HttpRequest request, std::shared_ptr<HttpResponder> responder);
  static std::string ServerErrorBody(int status, const std::string& code, const std::string& message);
  /// "GET /health" and so on, of every endpoint.
  static std::vector<std::string> Endpoints();
  /// Need no key: "/health" and "/v1/health", and the page, which holds nothing and asks for the key itself.
  static std::vector<std::string> OpenPaths();

  /// Of loading, in bytes.
  void SetProgress(int64_t done, int64_t total);
  /// Once.
  void SetModel(std::unique_ptr<ServedModel> model);
  /// Any thread: what requests get that do not say, from the next one on.
  void SetDefaults(const GenerationDefaults& defaults);
  /// From now on no new text: 503.
  void SetDraining() { draining_ = true; }
  /// For /metrics; borrowed, until the server ends.
  void SetCounters(const HttpCounters* counters) { counters_ = counters; }

  /// Null while loading.
  ServedModel* model() const { return model_; }

 private:
  struct Route;
  using Responder = std::shared_ptr<HttpResponder>;

  static const std::vector<Route>& Routes();
  void Reject(const Responder& responder, const ApiError& error);
  ApiError Loading() const;
  /// Why no text can be made now.
  std::optional<ApiError> NotReady() const;
  Status Healthy() const;
  ApiResult<std::string> NameOf(const std::string& asked) const;
  ApiResult<AnswerPlan> PlanOf(const GenerationFields& fields);
  ApiResult<AnswerPlan> PlanChat(const ChatRequest& request, const HttpRequest& http);
  AnswerHead HeadOf(const GenerationFields& fields, const AnswerPlan& plan);
  void Answer(AnswerPlan plan, const Responder& responder);
  uint64_t Random();

  void OpenApi(const HttpRequest& request, const Responder& responder);
  void Page(const HttpRequest& request, const Responder& responder);
  void Health(const HttpRequest& request, const Responder& responder);
  void Models(const HttpRequest& request, const Responder& responder);
  void Metrics(const HttpRequest& request, const Responder& responder);
  void Props(const HttpRequest& request, const Responder& responder);
  void Plan(const HttpRequest& request, const Responder& responder);
  void Policy(const HttpRequest& request, const Responder& responder);
  void TokenizerInfo(const HttpRequest& request, const Responder& responder);
  void Tokenize(const HttpRequest& request, const Responder& responder);
  void Detokenize(const HttpRequest& request, const Responder& responder);
  void Chat(const HttpRequest& request, const Responder& responder);
  void Completions(const HttpRequest& request, const Responder& responder);
  void Responses(const HttpRequest& request, const Responder& responder);

  GenerationRequest MakeRequest(const GenerationFields& fields, std::vector<int32_t> prompt, uint64_t seed,
                                int32_t index, const HttpRequest& http) const;
  std::optional<ApiError> CheckChoosing(const GenerationFields& fields) const;
  std::optional<ApiError> CheckPrompt(const std::vector<int32_t>& prompt, const std::string& param) const;

  const ApiOptions options_;
  const int64_t started_;  // Unix seconds
  ServerMetrics metrics_;
  std::atomic<const HttpCounters*> counters_{nullptr};
  std::atomic<int64_t> done_{0}, total_{0};
  std::atomic<bool> draining_{false};
  std::atomic<std::shared_ptr<const GenerationDefaults>> defaults_;
  std::mutex random_mutex_;
  std::mt19937_64 random_{std::random_device()()};
  std::unique_ptr<ServedModel> owned_;
  std::atomic<ServedModel*> model_{nullptr};
  WorkThread work_;  // goes first: its jobs use all of the above
};

}  // namespace moraine
