// ServedModel: a checkpoint's engine behind its scheduler, with the text around it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/core/token_mask.h"
#include "runtime/engine.h"
#include "runtime/grammar/grammar.h"
#include "runtime/grammar/token_table.h"
#include "runtime/scheduler.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/tokenizer_config.h"

namespace moraine {

/// What a folder's files beside the weights give; read before the weights, so that what is wrong with them is
/// said at once.
struct ModelText {
  std::unique_ptr<Tokenizer> tokenizer;
  TokenizerConfig config;
  ChatTemplate chat_template;

  /// kModel, as Tokenizer::Open, ReadTokenizerConfig and ChatTemplate::ForModel.
  static Result<ModelText> Open(const std::string& folder);
};

/// Immutable but for its scheduler. Members in this order: the scheduler ends first.
struct ServedModel {
  ModelText text;
  std::optional<int32_t> bos;  // to put before plain prompts
  GenerationDefaults defaults;
  std::string plan_json;
  /// What was expected, of prompts and answers as long as those so far: a JSON object. May be empty.
  std::function<std::string(const SchedulerStats&)> predict;
  std::string describe;
  int32_t slots = 1;
  /// For masks; an error where the vocabulary cannot spell all of JSON. It and what masks remember (6 MiB,
  /// and 1 MiB a sequence, for DeepSeek's vocabulary) are of what the plan leaves to the process.
  Result<std::unique_ptr<TokenTable>> tokens;
  std::unique_ptr<Scheduler> scheduler;

  /// Takes an engine. kModel: tokenizer and model do not belong together; the scheduler's errors.
  static Result<std::unique_ptr<ServedModel>> Make(ModelText text, std::unique_ptr<Engine> engine,
                                                   const SchedulerOptions& options);

  /// What holds an answer to a form; null for none. `thinking`: the prompt ends inside a think block, whose
  /// text is free. REQUIRES: tokens has a value. Any thread; borrows this model.
  std::shared_ptr<TokenMask> MaskFor(std::shared_ptr<const Grammar> form, bool thinking) const;
};

}  // namespace moraine
