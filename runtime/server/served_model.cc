#include "runtime/server/served_model.h"

#include <fmt/core.h>

#include <utility>

namespace moraine {

Result<ModelText> ModelText::Open(const std::string& folder) {
  MORAINE_ASSIGN_OR_RETURN(auto tokenizer, Tokenizer::Open(folder + "/tokenizer.json"));
  MORAINE_ASSIGN_OR_RETURN(auto config, ReadTokenizerConfig(folder));
  MORAINE_ASSIGN_OR_RETURN(auto chat_template, ChatTemplate::ForModel(folder));
  return ModelText{std::move(tokenizer), std::move(config), std::move(chat_template)};
}

Result<std::unique_ptr<ServedModel>> ServedModel::Make(ModelText text, std::unique_ptr<Engine> engine,
                                                       const SchedulerOptions& options) {
  if (text.tokenizer->vocab_size() > engine->shape().vocab) {
    return Fail(
        ErrorKind::kModel,
        fmt::format("tokenizer.json has {} ids, config.json's vocab_size is {}: the two do not belong "
                    "together",
                    text.tokenizer->vocab_size(), engine->shape().vocab));
  }
  auto made =
      std::make_unique<ServedModel>(ServedModel{.text = std::move(text),
                                                .bos = std::nullopt,
                                                .defaults = engine->generation(),
                                                .plan_json = PlanJson(engine->shape(), engine->plan()),
                                                .predict = {},
                                                .describe = engine->Describe(),
                                                .slots = options.running,
                                                .scheduler = nullptr});
  if (made->text.config.add_bos_token) made->bos = made->text.tokenizer->TokenId(made->text.config.bos_token);
  MORAINE_ASSIGN_OR_RETURN(made->scheduler, Scheduler::Start(std::move(engine), options));
  return made;
}

}  // namespace moraine
