#include "tools/divergence.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/core/check.h"

namespace moraine::tools {
namespace {

double LogSum(std::span<const float> logits) {
  const double most = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - most);
  return most + std::log(sum);
}

}  // namespace

double KlOfLogits(std::span<const float> exact, std::span<const float> model) {
  const double exact_sum = LogSum(exact);
  const double model_sum = LogSum(model);
  double kl = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double log_p = static_cast<double>(exact[i]) - exact_sum;
    kl += std::exp(log_p) * (log_p - (static_cast<double>(model[i]) - model_sum));
  }
  return kl;
}

Status AddDivergence(Engine& exact, Engine& model, std::span<const int32_t> ids, int64_t first,
                     Divergence* sum) {
  MORAINE_CHECK(first >= 1 && exact.shape().vocab == model.shape().vocab);
  const auto vocab = static_cast<size_t>(exact.shape().vocab);
  // The last id is predicted and not run.
  const std::span<const int32_t> run = ids.first(ids.size() - 1);
  std::vector<float> wanted;
  const auto keep = [&](int64_t, std::span<const float> logits) -> Status {
    wanted.insert(wanted.end(), logits.begin(), logits.end());
    return {};
  };
  Sequence exact_sequence = exact.NewSequence();
  MORAINE_RETURN_IF_ERROR(exact.Score(&exact_sequence, run, keep));
  const auto compare = [&](int64_t begin, std::span<const float> logits) -> Status {
    for (size_t row = 0; row < logits.size() / vocab; ++row) {
      const auto position = static_cast<size_t>(begin) + row;
      if (static_cast<int64_t>(position) < first - 1) continue;
      const std::span<const float> p = std::span(wanted).subspan(position * vocab, vocab);
      const std::span<const float> q = logits.subspan(row * vocab, vocab);
      const double kl = KlOfLogits(p, q);
      ++sum->positions;
      sum->kl_sum += kl;
      sum->kl_most = std::max(sum->kl_most, kl);
      sum->same_top +=
          std::max_element(p.begin(), p.end()) - p.begin() == std::max_element(q.begin(), q.end()) - q.begin()
              ? 1
              : 0;
    }
    return {};
  };
  Sequence sequence = model.NewSequence();
  return model.Score(&sequence, run, compare);
}

}  // namespace moraine::tools
