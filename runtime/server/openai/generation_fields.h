// What chat and plain completions share: how to sample, how much, where to stop, how to answer.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/engine.h"
#include "runtime/grammar/grammar.h"
#include "runtime/sampler.h"
#include "runtime/server/openai/fields.h"

namespace moraine {

struct GenerationFields {
  std::string model;  // empty: the one there is
  bool stream = false;
  bool include_usage = false;
  int32_t n = 1;
  int64_t max_tokens = 0;  // 0: not said
  int64_t min_tokens = 0;
  bool ignore_eos = false;
  bool cache_prompt = true;
  bool return_token_ids = false;
  std::optional<float> temperature, top_p, min_p, repetition_penalty;
  std::optional<int32_t> top_k;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  std::optional<uint64_t> seed;
  std::vector<std::string> stop;
  std::vector<std::pair<int32_t, float>> logit_bias;
  std::shared_ptr<const Grammar> form;  // of the answer; null: any text
  int32_t top_logprobs = -1;            // -1: none asked for
  std::string user;
  int64_t unknown_fields = 0;
};

/// Reads them; what is wrong stays in `fields`. max_tokens, logprobs and the form are read by the endpoints,
/// whose rules differ.
GenerationFields ReadGenerationFields(Fields* fields);

/// What was asked for, and the model's own wish for the rest; choice `index` of several gets a seed of its
/// own.
SamplingOptions SamplingOf(const GenerationFields& fields, const GenerationDefaults& defaults, uint64_t seed,
                           int32_t index);

}  // namespace moraine
