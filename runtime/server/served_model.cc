#include "runtime/server/served_model.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "runtime/core/check.h"
#include "runtime/grammar/grammar_mask.h"

namespace moraine {

namespace {

// Added tokens stand for no text, nor do those that end it.
Result<std::unique_ptr<TokenTable>> TokensOf(const Tokenizer& tokenizer, const ModelShape& shape) {
  std::vector<std::string_view> pieces;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const bool ends = std::ranges::find(shape.eos_tokens, id) != shape.eos_tokens.end();
    pieces.push_back(ends || tokenizer.IsAdded(id) ? std::string_view() : tokenizer.Piece(id));
  }
  return TokenTable::Make(std::move(pieces), shape.vocab, shape.eos_tokens);
}

}  // namespace

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
  auto tokens = TokensOf(*text.tokenizer, engine->shape());
  auto made =
      std::make_unique<ServedModel>(ServedModel{.text = std::move(text),
                                                .bos = std::nullopt,
                                                .defaults = engine->generation(),
                                                .plan_json = PlanJson(engine->shape(), engine->plan()),
                                                .predict = {},
                                                .describe = engine->Describe(),
                                                .slots = options.running,
                                                .tokens = std::move(tokens),
                                                .scheduler = nullptr});
  if (made->text.config.add_bos_token) made->bos = made->text.tokenizer->TokenId(made->text.config.bos_token);
  MORAINE_ASSIGN_OR_RETURN(made->scheduler, Scheduler::Start(std::move(engine), options));
  return made;
}

std::shared_ptr<TokenMask> ServedModel::MaskFor(std::shared_ptr<const Grammar> form, bool thinking) const {
  if (form == nullptr) return nullptr;
  MORAINE_CHECK(tokens.has_value());
  auto mask = std::make_unique<GrammarMask>(std::move(form), tokens->get());
  const auto open = text.tokenizer->TokenId("<think>");
  const auto close = text.tokenizer->TokenId("</think>");
  if (!thinking || !open || !close) return mask;
  return std::make_shared<MaskAfter>(*close, **tokens, std::move(mask));
}

}  // namespace moraine
