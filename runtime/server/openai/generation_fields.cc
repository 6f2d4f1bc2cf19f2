#include "runtime/server/openai/generation_fields.h"

#include <fmt/core.h>

#include <charconv>
#include <limits>

#include "runtime/core/printable.h"

namespace moraine {
namespace {

constexpr int64_t kMostChoices = 8;
constexpr size_t kMostStops = 16;
constexpr size_t kMostStopBytes = 1000;
constexpr size_t kMostBiases = 1024;
constexpr double kMostBias = 100;

void ReadStops(Fields* fields, std::vector<std::string>* stops) {
  const nlohmann::json* stop = fields->Raw("stop");
  if (stop == nullptr) return;
  if (stop->is_string()) {
    stops->push_back(stop->get<std::string>());
  } else if (stop->is_array()) {
    for (const nlohmann::json& one : *stop) {
      if (!one.is_string()) return fields->Refuse("stop", "not a list of strings", "invalid_type");
      stops->push_back(one.get<std::string>());
      if (stops->size() > kMostStops)
        return fields->Refuse("stop", fmt::format("more than {} strings", kMostStops));
    }
  } else {
    return fields->Refuse("stop", "neither a string nor a list of strings", "invalid_type");
  }
  for (const std::string& one : *stops) {
    if (one.empty()) return fields->Refuse("stop", "an empty string would stop everything");
    if (one.size() > kMostStopBytes)
      return fields->Refuse("stop", fmt::format("a string of more than {} bytes", kMostStopBytes));
  }
}

// A token id as JSON names it: digits, no zero before others.
std::optional<int32_t> TokenIdOf(const std::string& name) {
  int32_t id = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
  const bool whole = error == std::errc() && end == name.data() + name.size();
  if (!whole || id < 0 || std::to_string(id) != name) return std::nullopt;
  return id;
}

void ReadBias(Fields* fields, std::vector<std::pair<int32_t, float>>* biases) {
  const nlohmann::json* bias = fields->Raw("logit_bias");
  if (bias == nullptr) return;
  if (!bias->is_object())
    return fields->Refuse("logit_bias", "no object of token ids and numbers", "invalid_type");
  if (bias->size() > kMostBiases)
    return fields->Refuse("logit_bias", fmt::format("more than {} tokens", kMostBiases));
  Fields inner(*bias, "logit_bias");
  for (const auto& [name, value] : bias->items()) {
    const auto id = TokenIdOf(name);
    if (!id) return fields->Refuse("logit_bias", fmt::format("\"{}\" is no token id", Printable(name, 40)));
    const auto number = inner.Number(name.c_str(), -kMostBias, kMostBias);
    if (number) biases->emplace_back(*id, static_cast<float>(*number));
  }
  if (inner.error()) fields->Refuse("logit_bias", inner.error()->message, inner.error()->code);
}

void ReadSeed(Fields* fields, std::optional<uint64_t>* seed) {
  const nlohmann::json* value = fields->Raw("seed");
  if (value == nullptr) return;
  if (value->is_number_unsigned()) {
    *seed = value->get<uint64_t>();
  } else if (const auto whole = WholeNumber(*value)) {
    *seed = static_cast<uint64_t>(*whole);
  } else {
    fields->Refuse("seed", "not a whole number of 64 bits", value->is_number() ? "" : "invalid_type");
  }
}

std::optional<float> Narrow(std::optional<double> value) {
  return value ? std::optional(static_cast<float>(*value)) : std::nullopt;
}

}  // namespace

GenerationFields ReadGenerationFields(Fields* fields) {
  constexpr double kSmallest = 1e-6;
  GenerationFields read;
  read.model = fields->String("model").value_or("");
  read.stream = fields->Bool("stream").value_or(false);
  if (const nlohmann::json* options = fields->Raw("stream_options")) {
    Fields inner(*options, "stream_options");
    read.include_usage = inner.Bool("include_usage").value_or(false);
    if (inner.error()) fields->Refuse("stream_options", inner.error()->message, inner.error()->code);
  }
  read.n = static_cast<int32_t>(fields->Int("n", 1, kMostChoices).value_or(1));
  read.min_tokens = fields->Int("min_tokens", 0, std::numeric_limits<int32_t>::max()).value_or(0);
  read.ignore_eos = fields->Bool("ignore_eos").value_or(false);
  read.cache_prompt = fields->Bool("cache_prompt").value_or(true);
  read.return_token_ids = fields->Bool("return_token_ids").value_or(false);
  read.temperature = Narrow(fields->Number("temperature", 0, 10));
  read.top_p = Narrow(fields->Number("top_p", kSmallest, 1));
  read.min_p = Narrow(fields->Number("min_p", 0, 0.999));
  read.repetition_penalty = Narrow(fields->Number("repetition_penalty", 0.01, 10));
  // -1 is what some clients write for "all".
  if (const auto top_k = fields->Int("top_k", -1, std::numeric_limits<int32_t>::max()))
    read.top_k = static_cast<int32_t>(std::max<int64_t>(*top_k, 0));
  read.presence_penalty = Narrow(fields->Number("presence_penalty", -2, 2)).value_or(0.f);
  read.frequency_penalty = Narrow(fields->Number("frequency_penalty", -2, 2)).value_or(0.f);
  ReadSeed(fields, &read.seed);
  ReadStops(fields, &read.stop);
  read.user = fields->String("user").value_or("");
  ReadBias(fields, &read.logit_bias);
  fields->Ignore({"metadata", "store", "service_tier", "prompt_cache_key", "safety_identifier", "verbosity",
                  "modalities", "add_special_tokens"});
  return read;
}

SamplingOptions SamplingOf(const GenerationFields& fields, const GenerationDefaults& defaults, uint64_t seed,
                           int32_t index) {
  SamplingOptions options;
  options.temperature = fields.temperature.value_or(defaults.do_sample ? defaults.temperature : 0.f);
  options.top_p = fields.top_p.value_or(defaults.top_p);
  options.top_k = fields.top_k.value_or(defaults.top_k.value_or(0));
  options.min_p = fields.min_p.value_or(0.f);
  options.repetition_penalty = fields.repetition_penalty.value_or(1.f);
  options.presence_penalty = fields.presence_penalty;
  options.frequency_penalty = fields.frequency_penalty;
  options.seed = fields.seed.value_or(seed) + static_cast<uint64_t>(index);
  return options;
}

}  // namespace moraine
