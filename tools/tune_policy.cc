#include "tools/tune_policy.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "policies/policy_file.h"
#include "runtime/core/printable.h"
#include "tools/bench/read_bandwidth.h"

namespace moraine::tools {
namespace {

std::string ValueText(const TuneKey& key, size_t value) {
  std::string text = FormatPolicyValue(*key.key, key.values[value]);
  std::erase(text, '"');
  return text;
}

std::string Change(const TuneKey& key, size_t from, size_t to) {
  return fmt::format("{} {} -> {}", key.axis.name, ValueText(key, from), ValueText(key, to));
}

// A comment, broken into lines that a file may have; no byte ends it early.
std::string Comment(const std::string& text) {
  constexpr size_t kMost = 400;
  return fmt::format("# {}\n", Printable(text, kMost));
}

void AddFigures(const TuneOutcome& outcome, PolicyLayer* layer) {
  const auto add = [&](const char* name, double value) { layer->figures[name] = value; };
  if (!outcome.before || !outcome.after) return;
  add("gain", Median(outcome.held_ratios));
  add("decode_tok_s_before", outcome.before->decode_tok_s);
  add("prefill_tok_s_before", outcome.before->prefill_tok_s);
  if (outcome.best == outcome.start) return;
  add("decode_tok_s", outcome.after->decode_tok_s);
  add("prefill_tok_s", outcome.after->prefill_tok_s);
  add("hit_rate", outcome.after->hit_rate);
}

}  // namespace

std::string TrialText(const std::vector<TuneKey>& keys, const TuneTrial& trial) {
  const std::string change = Change(keys[trial.axis], trial.from, trial.to);
  if (!trial.refused.empty()) return fmt::format("{}: cannot be run: {}", change, trial.refused);
  return fmt::format("{}: x{:.3f} ({:.3f}), {}", change, Median(trial.ratios), fmt::join(trial.ratios, " "),
                     trial.verdict == Verdict::kAccepted ? "kept" : "not kept");
}

std::string TunedPolicyText(const ResolvedPolicy& user, const std::vector<TuneKey>& keys,
                            const TuneOutcome& outcome, const TuneOrigin& origin) {
  std::string text =
      Comment(fmt::format("moraine tune {}, {}: {}", origin.model, origin.date, origin.prompts));
  text +=
      Comment(fmt::format("Each value alternated with the policy it would replace; kept from x{:.3f} on "
                          "(time without / with; two "
                          "equal runs differ by {:.1f} %).",
                          outcome.gain, 100 * outcome.noise));
  for (const TuneTrial& trial : outcome.trials) text += Comment(TrialText(keys, trial));
  if (outcome.held_ratios.empty()) {
    text += Comment("Nothing was found that gains: this is the policy it began with.");
  } else {
    text += Comment(fmt::format(
        "All of it on prompts held out: x{:.3f} ({:.3f}){}", Median(outcome.held_ratios),
        fmt::join(outcome.held_ratios, " "),
        outcome.best == outcome.start ? ": not confirmed, so this is the policy it began with." : "."));
  }
  if (outcome.out_of_time) text += Comment("Time was up before everything had been tried.");
  PolicyLayer layer;
  for (const ResolvedKey& row : user.keys) {
    if (!row.where.empty() && row.key->table != "measured") layer.Set({row.key, row.value, ""});
  }
  layer.place = user.policy.place;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (outcome.best[i] != outcome.start[i]) layer.Set({keys[i].key, keys[i].values[outcome.best[i]], ""});
  }
  const auto measured = [&](const char* name, const std::string& value) {
    const auto key = FindPolicyKey(name);
    if (key.has_value() && !value.empty()) layer.Set({*key, value.substr(0, kMostPolicyText), ""});
  };
  measured("measured.fingerprint", origin.fingerprint);
  measured("measured.date", origin.date);
  AddFigures(outcome, &layer);
  return text + PolicyText(layer);
}

}  // namespace moraine::tools
