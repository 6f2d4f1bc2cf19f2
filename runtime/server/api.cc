#include "runtime/server/api.h"

#include <fmt/core.h>
#include <strings.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/allowed_logits.h"
#include "runtime/core/json_guard.h"
#include "runtime/core/printable.h"
#include "runtime/core/version.h"
#include "runtime/server/answer.h"
#include "runtime/server/openai/chat_format.h"
#include "runtime/server/openai/chat_request.h"
#include "runtime/server/openai/completion_request.h"
#include "runtime/server/openai/random_id.h"
#include "runtime/server/openai/responses_format.h"
#include "runtime/server/openai/responses_request.h"
#include "runtime/server/openapi.h"
#include "runtime/server/plan_report.h"
#include "runtime/server/ui/page.h"
#include "runtime/text/detokenizer.h"

namespace moraine {
namespace {

using nlohmann::json;

int64_t UnixSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

bool IsJson(std::string_view content_type) {
  constexpr std::string_view kJson = "application/json";
  if (content_type.size() < kJson.size()) return false;
  if (::strncasecmp(content_type.data(), kJson.data(), kJson.size()) != 0) return false;
  return content_type.size() == kJson.size() || content_type[kJson.size()] == ';' ||
         content_type[kJson.size()] == ' ';
}

void SendJson(const std::shared_ptr<HttpResponder>& responder, const json& body) {
  responder->Send({.body = Dump(body)});
}

ApiResult<json> ParseBody(const std::string& body) {
  auto parsed = ParseJson(body, "the request");
  if (parsed.has_value() && parsed->is_object()) return std::move(*parsed);
  return tl::unexpected(
      ApiError{.code = "invalid_json",
               .param = "",
               .message = parsed.has_value() ? "the request is no JSON object" : parsed.error().message});
}

}  // namespace

struct Api::Route {
  const char* method;
  const char* path;
  void (Api::*call)(const HttpRequest&, const Responder&);
  bool needs_model;
  bool slow;  // grows with the body: not for the thread that does I/O
};

const std::vector<Api::Route>& Api::Routes() {
  static const std::vector<Route> routes = {
      {"GET", "/", &Api::Page, false, false},
      {"GET", "/health", &Api::Health, false, false},
      {"GET", "/v1/health", &Api::Health, false, false},
      {"GET", "/openapi.json", &Api::OpenApi, false, false},
      {"GET", "/metrics", &Api::Metrics, false, false},
      {"GET", "/v1/models", &Api::Models, false, false},
      {"GET", "/props", &Api::Props, true, false},
      {"GET", "/plan", &Api::Plan, true, false},
      {"POST", "/policy", &Api::Policy, true, true},
      {"GET", "/tokenizer_info", &Api::TokenizerInfo, true, false},
      {"POST", "/tokenize", &Api::Tokenize, true, true},
      {"POST", "/detokenize", &Api::Detokenize, true, true},
      {"POST", "/v1/chat/completions", &Api::Chat, true, true},
      {"POST", "/v1/completions", &Api::Completions, true, true},
      {"POST", "/v1/responses", &Api::Responses, true, true},
  };
  return routes;
}

Api::Api(ApiOptions options) : options_(std::move(options)), started_(UnixSeconds()) {}
Api::~Api() = default;

std::vector<std::string> Api::Endpoints() {
  std::vector<std::string> endpoints;
  for (const Route& route : Routes()) endpoints.push_back(fmt::format("{} {}", route.method, route.path));
  return endpoints;
}

std::vector<std::string> Api::OpenPaths() { return {"/", "/health", "/v1/health"}; }

std::string Api::ServerErrorBody(int status, const std::string& code, const std::string& message) {
  return ErrorBody({.status = status, .code = code, .param = "", .message = message});
}

void Api::SetProgress(int64_t done, int64_t total) {
  done_ = done;
  total_ = total;
}

void Api::SetModel(std::unique_ptr<ServedModel> model) {
  owned_ = std::move(model);
  SetDefaults(owned_->defaults);
  model_ = owned_.get();
}

void Api::SetDefaults(const GenerationDefaults& defaults) {
  defaults_ = std::make_shared<const GenerationDefaults>(defaults);
}

uint64_t Api::Random() {
  const std::lock_guard lock(random_mutex_);
  return random_();
}

void Api::Reject(const Responder& responder, const ApiError& error) {
  ++metrics_.rejected;
  responder->Send(ErrorResponse(error));
}

ApiError Api::Loading() const {
  const int64_t total = total_;
  const int percent =
      total == 0 ? 0 : static_cast<int>(100 * static_cast<double>(done_) / static_cast<double>(total));
  return {.status = 503,
          .code = "loading",
          .param = "",
          .message = fmt::format("the model is being loaded: {} %", percent),
          .retry_after_s = 5};
}

std::optional<ApiError> Api::NotReady() const {
  if (draining_)
    return ApiError{.status = 503,
                    .code = "draining",
                    .param = "",
                    .message = "the server stops and takes nothing new",
                    .retry_after_s = 30};
  if (model_ == nullptr) return Loading();
  return std::nullopt;
}

Status Api::Healthy() const {
  const ServedModel* model = model_;
  if (model == nullptr) return moraine::Fail(ErrorKind::kBusy, "loading");
  return model->scheduler->Health();
}

ApiResult<std::string> Api::NameOf(const std::string& asked) const {
  if (asked.empty() || std::ranges::find(options_.names, asked) != options_.names.end())
    return asked.empty() ? options_.names.front() : asked;
  return tl::unexpected(
      ApiError{.status = 404,
               .code = "model_not_found",
               .param = "model",
               .message = fmt::format("there is no model \"{}\" here; this server has \"{}\"",
                                      Printable(asked, 100), options_.names.front())});
}

void Api::Handle(HttpRequest request, std::shared_ptr<HttpResponder> responder) {
  const Route* route = nullptr;
  std::string allowed;
  for (const Route& one : Routes()) {
    if (request.path != one.path || (one.call == &Api::Page && !options_.page)) continue;
    allowed += fmt::format("{}{}, ", one.method, std::string_view(one.method) == "GET" ? ", HEAD" : "");
    if (request.method == one.method) route = &one;
  }
  if (allowed.empty()) {
    return Reject(responder,
                  {.status = 404,
                   .code = "unknown_path",
                   .param = "",
                   .message = fmt::format("there is nothing at {}", Printable(request.path, 100))});
  }
  allowed += "OPTIONS";
  if (request.method == "OPTIONS") {
    return responder->Send(
        {.status = 204,
         .headers = {{"Allow", allowed},
                     {"Access-Control-Allow-Methods", allowed},
                     {"Access-Control-Allow-Headers", "authorization, content-type, x-api-key"},
                     {"Access-Control-Max-Age", "600"}}});
  }
  if (route == nullptr) {
    ++metrics_.rejected;
    HttpResponse response = ErrorResponse({.status = 405,
                                           .code = "method_not_allowed",
                                           .param = "",
                                           .message = fmt::format("{} allows {}", request.path, allowed)});
    response.headers.emplace_back("Allow", allowed);
    return responder->Send(std::move(response));
  }
  // Anything else a web page could send without asking first.
  if (request.method == "POST" && !IsJson(request.content_type)) {
    return Reject(responder, {.status = 415,
                              .code = "unsupported_media_type",
                              .param = "",
                              .message = "expected Content-Type: application/json"});
  }
  if (route->needs_model && model_ == nullptr) return Reject(responder, Loading());
  if (!route->slow) return (this->*route->call)(request, responder);
  work_.Post([this, route, request = std::move(request), responder = std::move(responder)] {
    if (!responder->gone()) (this->*route->call)(request, responder);
  });
}

void Api::Page(const HttpRequest&, const Responder& responder) { responder->Send(PageResponse()); }

void Api::Health(const HttpRequest& request, const Responder& responder) {
  if (const auto error = NotReady()) return responder->Send(ErrorResponse(*error));
  if (const Status status = Healthy(); !status.has_value()) {
    // Who has no key need not know what broke.
    return responder->Send(
        ErrorResponse({.status = 503,
                       .code = "engine_failed",
                       .param = "",
                       .message = request.keyed ? status.error().message : "the engine failed"}));
  }
  SendJson(responder, {{"status", "ok"}});
}

void Api::OpenApi(const HttpRequest&, const Responder& responder) {
  responder->Send({.body = std::string(OpenApiJson())});
}

void Api::Models(const HttpRequest&, const Responder& responder) {
  const ServedModel* model = model_;
  json list = json::array();
  for (const std::string& name : options_.names) {
    json one = {{"id", name}, {"object", "model"}, {"created", started_}, {"owned_by", "moraine"}};
    if (model != nullptr) one["max_model_len"] = model->scheduler->context();
    list.push_back(std::move(one));
  }
  SendJson(responder, {{"object", "list"}, {"data", std::move(list)}});
}

void Api::Metrics(const HttpRequest&, const Responder& responder) {
  static const HttpCounters kNone;
  const HttpCounters* counters = counters_;
  ServedModel* model = model_;
  SchedulerStats stats;
  if (model != nullptr) stats = model->scheduler->stats();
  responder->Send({.body = MetricsText(metrics_, counters == nullptr ? kNone : *counters,
                                       model == nullptr ? nullptr : &stats, Healthy().has_value()),
                   .content_type = "text/plain; version=0.0.4"});
}

void Api::Props(const HttpRequest&, const Responder& responder) {
  const ServedModel& model = *model_;
  SendJson(responder, {{"default_generation_settings", {{"n_ctx", model.scheduler->context()}}},
                       {"total_slots", model.slots},
                       {"model_alias", options_.names.front()},
                       {"chat_template", model.text.config.chat_template.value_or("")},
                       {"chat_template_name", model.text.chat_template.name()},
                       {"can_switch_thinking", model.text.chat_template.can_switch_thinking()},
                       {"engine", model.describe},
                       {"build_info", fmt::format("moraine {}", Version())}});
}

void Api::Plan(const HttpRequest&, const Responder& responder) {
  responder->Send({.body = PlanWithSpeed(*model_.load())});
}

// Who may write the file may have it read again; nobody else need be able to.
void Api::Policy(const HttpRequest& request, const Responder& responder) {
  if (!request.local_socket) {
    return Reject(responder, {.status = 403,
                              .code = "unix_socket_only",
                              .param = "",
                              .message = "the policy is read again only over the server's Unix socket"});
  }
  auto report = options_.reload();
  if (!report.has_value()) return Reject(responder, FromError(report.error()));
  responder->Send({.body = *std::move(report)});
}

void Api::TokenizerInfo(const HttpRequest&, const Responder& responder) {
  const ModelText& text = model_.load()->text;
  SendJson(responder, {{"tokenizer_class", "PreTrainedTokenizerFast"},
                       {"bos_token", text.config.bos_token},
                       {"eos_token", text.config.eos_token},
                       {"pad_token", text.config.eos_token},
                       {"add_bos_token", text.config.add_bos_token},
                       {"vocab_size", text.tokenizer->vocab_size()},
                       {"chat_template", text.config.chat_template.value_or("")}});
}

void Api::Tokenize(const HttpRequest& request, const Responder& responder) {
  const auto body = ParseBody(request.body);
  if (!body.has_value()) return Reject(responder, body.error());
  const ServedModel& model = *model_;
  Fields fields(*body, "");
  auto text = fields.String("prompt");
  const auto content = fields.String("content");
  if (!text) text = content;
  const bool special = fields.Bool("add_special_tokens").value_or(true);
  const bool bos = fields.Bool("add_special").value_or(special);
  if (!text) fields.Refuse("prompt", "missing; the text to encode", "missing_required_parameter");
  if (fields.error()) return Reject(responder, *fields.error());
  std::vector<int32_t> ids = model.text.tokenizer->Encode(*text);
  if (bos && model.bos) ids.insert(ids.begin(), *model.bos);
  const size_t count = ids.size();
  SendJson(responder,
           {{"tokens", std::move(ids)}, {"count", count}, {"max_model_len", model.scheduler->context()}});
}

void Api::Detokenize(const HttpRequest& request, const Responder& responder) {
  const auto body = ParseBody(request.body);
  if (!body.has_value()) return Reject(responder, body.error());
  const Tokenizer& tokenizer = *model_.load()->text.tokenizer;
  Fields fields(*body, "");
  const json* list = fields.Raw("tokens");
  std::vector<int32_t> ids;
  if (list == nullptr || !list->is_array()) {
    fields.Refuse("tokens", "expected a list of token ids", "missing_required_parameter");
  } else {
    for (const json& id : *list) {
      const auto number = WholeNumber(id);
      if (!number || *number < 0 || *number >= tokenizer.vocab_size()) {
        fields.Refuse("tokens", fmt::format("expected ids from 0 to {}", tokenizer.vocab_size() - 1));
        break;
      }
      ids.push_back(static_cast<int32_t>(*number));
    }
  }
  if (fields.error()) return Reject(responder, *fields.error());
  const std::string text = Decode(tokenizer, ids);
  SendJson(responder, {{"prompt", text}, {"content", text}});
}

std::optional<ApiError> Api::CheckPrompt(const std::vector<int32_t>& prompt, const std::string& param) const {
  const Scheduler& scheduler = *model_.load()->scheduler;
  const auto tokens = static_cast<int64_t>(prompt.size());
  if (tokens == 0)
    return ApiError{.code = "empty_prompt", .param = param, .message = param + ": no tokens to continue"};
  if (tokens >= scheduler.context()) {
    return ApiError{
        .code = "context_length_exceeded",
        .param = param,
        .message = fmt::format("the prompt has {} tokens and the context {} positions: no room for "
                               "an answer; shorten it or start the server with a larger --ctx",
                               tokens, scheduler.context())};
  }
  for (const int32_t id : prompt) {
    if (id < 0 || id >= scheduler.shape().vocab) {
      return ApiError{.code = "invalid_value",
                      .param = param,
                      .message = fmt::format("{}: token id {} is outside the vocabulary, 0 to {}", param, id,
                                             scheduler.shape().vocab - 1)};
    }
  }
  return std::nullopt;
}

GenerationRequest Api::MakeRequest(const GenerationFields& fields, std::vector<int32_t> prompt, uint64_t seed,
                                   int32_t index, const HttpRequest& http) const {
  const ServedModel& model = *model_;
  GenerationRequest request;
  request.prompt = std::move(prompt);
  request.sampling = SamplingOf(fields, *defaults_.load(), seed, index);
  request.max_tokens = fields.max_tokens;
  request.min_tokens = fields.min_tokens;
  if (!fields.ignore_eos) request.stop_tokens = model.scheduler->shape().eos_tokens;
  request.logit_bias = fields.logit_bias;
  request.top_logprobs = fields.top_logprobs;
  // Cached prompts are shared within a client: one that is nobody's finds none.
  request.on_disk = fields.cache_prompt;
  request.client = fields.cache_prompt ? http.client + "/" + fields.user : http.id;
  return request;
}

// What fields say of the vocabulary.
std::optional<ApiError> Api::CheckChoosing(const GenerationFields& fields) const {
  const ServedModel& model = *model_;
  Status status = CheckBias(fields.logit_bias, model.scheduler->shape().vocab);
  std::string param = "logit_bias";
  if (status.has_value() && fields.form != nullptr && !model.tokens.has_value()) {
    status = tl::unexpected(model.tokens.error());
    param = "response_format";
  }
  if (status.has_value()) return std::nullopt;
  ApiError error = FromError(status.error());
  error.param = std::move(param);
  return error;
}

// What all answers share.
ApiResult<AnswerPlan> Api::PlanOf(const GenerationFields& fields) {
  metrics_.unknown_fields += fields.unknown_fields;
  auto name = NameOf(fields.model);
  if (!name.has_value()) return tl::unexpected(name.error());
  if (auto error = CheckChoosing(fields)) return tl::unexpected(*std::move(error));
  AnswerPlan plan;
  plan.model = *std::move(name);
  plan.stream = fields.stream;
  plan.return_token_ids = fields.return_token_ids;
  plan.stops = fields.stop;
  plan.choices_per_prompt = fields.n;
  return plan;
}

ApiResult<AnswerPlan> Api::PlanChat(const ChatRequest& request, const HttpRequest& http) {
  const GenerationFields& fields = request.generation;
  auto plan = PlanOf(fields);
  if (!plan.has_value()) return plan;
  const ModelText& text = model_.load()->text;
  const ToolFields& tools = request.tools;
  const auto parts = text.chat_template.Render(
      request.messages, {.thinking = request.thinking, .tools = tools.tools, .begun_call = tools.begun_call});
  if (!parts.has_value()) {
    ApiError error = FromError(parts.error());
    error.param = "messages";
    return tl::unexpected(std::move(error));
  }
  if (!tools.tools.empty()) {
    plan->tools = ToolReading{.form = text.chat_template.tool_call_form(),
                              .begun_call = tools.begun_call,
                              .one_call = !tools.parallel};
  }
  const std::vector<int32_t> prompt = EncodeChat(*text.tokenizer, *parts);
  if (auto error = CheckPrompt(prompt, "messages")) return tl::unexpected(*std::move(error));
  plan->thinking = OpensThinking(*parts);
  const uint64_t seed = Random();
  for (int32_t i = 0; i < fields.n; ++i) {
    plan->choices.push_back(MakeRequest(fields, prompt, seed, i, http));
    plan->choices.back().mask = model_.load()->MaskFor(fields.form, plan->thinking);
  }
  return plan;
}

AnswerHead Api::HeadOf(const GenerationFields& fields, const AnswerPlan& plan) {
  return {.chat = plan.chat,
          .id = fmt::format("{}-{:016x}", plan.chat ? "chatcmpl" : "cmpl", Random()),
          .created = UnixSeconds(),
          .model = plan.model,
          .usage_in_chunks = fields.include_usage};
}

namespace {

std::unique_ptr<AnswerFormat> MakeChatFormat(AnswerHead head, const GenerationFields& fields,
                                             const AnswerPlan& plan) {
  ChatFormatOptions options;
  options.head = std::move(head);
  options.stream = plan.stream;
  options.include_usage = fields.include_usage;
  options.choices = plan.choices.size();
  if (plan.return_token_ids) {
    for (const GenerationRequest& choice : plan.choices) options.prompt_ids.push_back(choice.prompt);
  }
  return std::make_unique<ChatFormat>(std::move(options));
}

}  // namespace

void Api::Answer(AnswerPlan plan, const Responder& responder) {
  std::make_shared<moraine::Answer>(model_, &metrics_, std::move(plan), responder)->Start();
}

void Api::Chat(const HttpRequest& http, const Responder& responder) {
  if (const auto error = NotReady()) return Reject(responder, *error);
  const auto parsed = ParseChatRequest(http.body);
  if (!parsed.has_value()) return Reject(responder, parsed.error());
  auto plan = PlanChat(*parsed, http);
  if (!plan.has_value()) return Reject(responder, plan.error());
  plan->format = MakeChatFormat(HeadOf(parsed->generation, *plan), parsed->generation, *plan);
  Answer(*std::move(plan), responder);
}

void Api::Responses(const HttpRequest& http, const Responder& responder) {
  if (const auto error = NotReady()) return Reject(responder, *error);
  const auto parsed = ParseResponsesRequest(http.body);
  if (!parsed.has_value()) return Reject(responder, parsed.error());
  auto plan = PlanChat(parsed->chat, http);
  if (!plan.has_value()) {
    ApiError error = plan.error();
    if (error.param == "messages") error.param = "input";
    return Reject(responder, error);
  }
  ResponsesFormatOptions options;
  options.id = RandomId("resp_");
  options.created = UnixSeconds();
  options.model = plan->model;
  options.temperature = plan->choices.front().sampling.temperature;
  options.top_p = plan->choices.front().sampling.top_p;
  options.repeated = parsed->repeated;
  options.stream = plan->stream;
  plan->format = std::make_unique<ResponsesFormat>(std::move(options));
  Answer(*std::move(plan), responder);
}

void Api::Completions(const HttpRequest& http, const Responder& responder) {
  if (const auto error = NotReady()) return Reject(responder, *error);
  auto parsed = ParseCompletionRequest(http.body);
  if (!parsed.has_value()) return Reject(responder, parsed.error());
  const GenerationFields& fields = parsed->generation;
  auto plan = PlanOf(fields);
  if (!plan.has_value()) return Reject(responder, plan.error());
  plan->chat = false;
  plan->echo = parsed->echo;
  plan->only_echo = parsed->only_echo;
  const ServedModel& model = *model_;
  const uint64_t seed = Random();
  for (CompletionPrompt& one : parsed->prompts) {
    std::vector<int32_t> prompt;
    if (auto* ids = std::get_if<std::vector<int32_t>>(&one)) {
      prompt = std::move(*ids);
    } else {
      prompt = model.text.tokenizer->Encode(std::get<std::string>(one));
      if (model.bos) prompt.insert(prompt.begin(), *model.bos);
    }
    if (const auto error = CheckPrompt(prompt, "prompt")) return Reject(responder, *error);
    for (int32_t i = 0; i < fields.n; ++i) {
      GenerationRequest request = MakeRequest(fields, prompt, seed, i, http);
      request.prompt_logprobs = parsed->echo && fields.top_logprobs >= 0;
      request.mask = model.MaskFor(fields.form, /*thinking=*/false);
      plan->choices.push_back(std::move(request));
    }
  }
  plan->format = MakeChatFormat(HeadOf(fields, *plan), fields, *plan);
  Answer(*std::move(plan), responder);
}

}  // namespace moraine
