#include "runtime/server/openai/completion_request.h"

#include <fmt/core.h>

#include <limits>
#include <optional>
#include <utility>

#include "runtime/core/json_guard.h"
#include "runtime/server/openai/response_format.h"

namespace moraine {
namespace {

using nlohmann::json;

constexpr size_t kMostPrompts = 64;  // times n
constexpr int64_t kDefaultTokens = 16;

std::optional<std::vector<int32_t>> Ids(const json& list) {
  std::vector<int32_t> ids;
  for (const json& id : list) {
    const auto number = WholeNumber(id);
    if (!number || *number < 0 || *number > std::numeric_limits<int32_t>::max()) return std::nullopt;
    ids.push_back(static_cast<int32_t>(*number));
  }
  return ids;
}

void ReadPrompts(Fields* fields, std::vector<CompletionPrompt>* prompts) {
  constexpr const char* kExpected = "expected a string, token ids, or a list of either";
  const json* value = fields->Raw("prompt");
  if (value == nullptr) return fields->Refuse("prompt", kExpected, "missing_required_parameter");
  if (value->is_string()) {
    prompts->emplace_back(value->get<std::string>());
    return;
  }
  if (!value->is_array() || value->empty()) return fields->Refuse("prompt", kExpected);
  if ((*value)[0].is_number()) {
    auto ids = Ids(*value);
    if (!ids) return fields->Refuse("prompt", "a list that begins with a token id holds something else");
    prompts->emplace_back(std::move(*ids));
    return;
  }
  if (value->size() > kMostPrompts)
    return fields->Refuse("prompt", fmt::format("more than {} prompts", kMostPrompts));
  for (size_t i = 0; i < value->size(); ++i) {
    const json& one = (*value)[i];
    if (one.is_string()) {
      prompts->emplace_back(one.get<std::string>());
      continue;
    }
    auto ids = one.is_array() ? Ids(one) : std::nullopt;
    if (!ids || ids->empty()) return fields->Refuse(fmt::format("prompt[{}]", i), kExpected);
    prompts->emplace_back(std::move(*ids));
  }
}

}  // namespace

ApiResult<CompletionRequest> ParseCompletionRequest(std::string_view body) {
  auto document = ParseJson(body, "the request");
  if (!document.has_value())
    return tl::unexpected(ApiError{.code = "invalid_json", .param = "", .message = document.error().message});
  Fields fields(*document, "");
  CompletionRequest request;
  request.generation = ReadGenerationFields(&fields);
  GenerationFields& generation = request.generation;
  request.echo = fields.Bool("echo").value_or(false);
  generation.max_tokens =
      fields.Int("max_tokens", 0, std::numeric_limits<int32_t>::max()).value_or(kDefaultTokens);
  if (generation.max_tokens == 0) {
    if (!request.echo) fields.Refuse("max_tokens", "0 is of use with \"echo\": true alone");
    request.only_echo = true;
    generation.max_tokens = 1;
  }
  generation.top_logprobs = static_cast<int32_t>(fields.Int("logprobs", 0, 20).value_or(-1));
  if (const auto suffix = fields.String("suffix"); suffix && !suffix->empty())
    fields.Refuse("suffix", "not supported by this server", "unsupported_parameter");
  if (const auto best = fields.Int("best_of", 1, 8); best && *best != generation.n)
    fields.Refuse("best_of", "not supported by this server unless it equals n", "unsupported_parameter");
  generation.form = ReadResponseFormat(&fields, body);
  ReadPrompts(&fields, &request.prompts);
  if (request.prompts.size() * static_cast<size_t>(generation.n) > kMostPrompts)
    fields.Refuse("n", fmt::format("prompts times n is over {}", kMostPrompts));
  if (request.echo && generation.stream)
    fields.Refuse("echo", "not supported together with stream", "unsupported_parameter");
  if (fields.error()) return tl::unexpected(*fields.error());
  generation.unknown_fields = fields.unknown();
  return request;
}

}  // namespace moraine
