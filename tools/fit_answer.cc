#include "tools/fit_answer.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace moraine::tools {
namespace {

constexpr int64_t kBlock = 4096;

// The same model with its experts as int4 in groups of 64: 4.25 bits a weight. FP8's resident scales go.
FitCase WithInt4Experts(FitCase fit) {
  const double before = fit.work.expert.bytes;
  fit.work = WithIntegerExperts(fit.work, WeightFormat::kInt4Group, 64);
  const double ratio = fit.work.expert.bytes / before;
  fit.request.expert_bytes = static_cast<int64_t>(fit.work.expert.bytes);
  fit.request.weights[static_cast<size_t>(TensorClass::kRouted)] = 0;
  fit.request.slots.reset();
  for (SlotClass& c : fit.request.classes) {
    for (int64_t& bytes : c.node_bytes) {
      const double smaller = std::ceil(static_cast<double>(bytes) * ratio / kBlock);
      bytes = static_cast<int64_t>(smaller) * kBlock;
    }
  }
  return fit;
}

FitCase WithMoreRam(FitCase fit, int64_t bytes) {
  fit.request.ram.bytes += bytes;
  fit.request.ram.source += " and more";
  fit.request.slots.reset();
  return fit;
}

FitCase WithFasterDrive(FitCase fit, double times) {
  fit.rates.drive_read.value *= times;
  return fit;
}

// Memory alone: what instructions bound stays as it is.
FitCase WithFasterMemory(FitCase fit, double times) {
  const double before = fit.rates.memory_read.value;
  fit.rates.memory_read.value *= times;
  for (ExpertRate& rate : fit.rates.experts) {
    if (rate.decode_bytes_s.value >= kMemoryBound * before) rate.decode_bytes_s.value *= times;
  }
  return fit;
}

}  // namespace

Result<FitAnswer> Ask(const FitCase& fit) {
  FitAnswer answer;
  MORAINE_ASSIGN_OR_RETURN(answer.plan, MakePlan(fit.shape, fit.request));
  ForecastOptions options = fit.forecast;
  options.hits = HitRateOf(fit.curve, SlotShare(answer.plan));
  if (fit.hits) options.hits = {*fit.hits, *fit.hits, *fit.hits};
  answer.forecast = MakeForecast(fit.work, answer.plan, fit.rates, options);
  return answer;
}

std::vector<NextStep> NextSteps(const FitCase& fit) {
  constexpr int64_t kMore = int64_t{64} << 30;
  constexpr double kLeastSaving = 1.15;
  std::vector<std::pair<std::string, FitCase>> cases;
  cases.emplace_back("+64 GiB RAM", WithMoreRam(fit, kMore));
  cases.emplace_back("a second drive like this one, half the files on each", WithFasterDrive(fit, 2));
  cases.emplace_back("memory twice as fast", WithFasterMemory(fit, 2));
  const FitCase fewer = WithInt4Experts(fit);
  if (fit.work.moe_layers > 0 && fewer.work.expert.bytes * kLeastSaving < fit.work.expert.bytes)
    cases.emplace_back("routed experts as int4-g64 (moraine pack)", fewer);
  std::vector<NextStep> steps;
  for (auto& [change, other] : cases) {
    // A trace's hit rate was of its own number of slots.
    if (other.request.ram.bytes != fit.request.ram.bytes || other.work.expert.bytes != fit.work.expert.bytes)
      other.hits.reset();
    const auto answer = Ask(other);
    steps.push_back({.change = std::move(change),
                     .fits = answer.has_value(),
                     .decode = answer.has_value() ? answer->forecast.decode : Speed{}});
  }
  return steps;
}

int64_t LargestContext(const FitCase& fit, int32_t page_tokens) {
  FitCase other = fit;
  const double position = fit.work.kv_bytes;
  const auto fits = [&](int64_t pages) {
    other.request.kv = static_cast<double>(pages) * page_tokens * position;
    return MakePlan(other.shape, other.request).has_value();
  };
  // The scratch of attention does not grow with the context, so pages alone decide.
  int64_t low = 0;
  int64_t high = (fit.shape.context + page_tokens - 1) / page_tokens;
  while (low < high) {
    const int64_t middle = low + (high - low + 1) / 2;
    if (fits(middle)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return std::min(low * page_tokens, fit.shape.context);
}

}  // namespace moraine::tools
