#include "policies/synthetic_routing.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "runtime/core/check.h"

namespace moraine {
namespace {

// A layer's experts, likelier ones first, and the rows that choose from them.
class LayerRouter {
 public:
  LayerRouter(const SyntheticRouting& options, std::mt19937_64* random)
      : options_(options),
        random_(*random),
        order_(static_cast<size_t>(options.experts)),
        cumulative_(order_.size()) {
    std::iota(order_.begin(), order_.end(), 0);
    for (size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[random_() % i]);
    double sum = 0;
    for (size_t rank = 0; rank < order_.size(); ++rank) {
      sum += std::pow(static_cast<double>(rank + 1), -options.skew);
      cumulative_[rank] = sum;
    }
  }

  void Row(std::vector<int32_t>* chosen) {
    const auto top_k = static_cast<size_t>(options_.top_k);
    const size_t rows = past_.size() / top_k;
    std::vector<int32_t> row;
    for (size_t i = 0; i < top_k && rows > 0; ++i) {
      const double draw = Uniform();
      const size_t back =
          static_cast<size_t>(random_() % std::min(rows, static_cast<size_t>(options_.memory)));
      const int32_t expert = past_[(rows - 1 - back) * top_k + i];
      if (draw < options_.overlap && std::find(row.begin(), row.end(), expert) == row.end())
        row.push_back(expert);
    }
    while (row.size() < static_cast<size_t>(options_.top_k)) {
      const auto rank =
          std::lower_bound(cumulative_.begin(), cumulative_.end(), Uniform() * cumulative_.back());
      const int32_t expert =
          order_[static_cast<size_t>(std::min(rank, cumulative_.end() - 1) - cumulative_.begin())];
      if (std::find(row.begin(), row.end(), expert) == row.end()) row.push_back(expert);
    }
    chosen->insert(chosen->end(), row.begin(), row.end());
    past_.insert(past_.end(), row.begin(), row.end());
    if (rows >= static_cast<size_t>(options_.memory))
      past_.erase(past_.begin(), past_.begin() + static_cast<std::ptrdiff_t>(top_k));
  }

 private:
  // The standard's distributions differ between libraries.
  double Uniform() { return static_cast<double>(random_() >> 11) * 0x1p-53; }

  const SyntheticRouting& options_;
  std::mt19937_64& random_;
  std::vector<int32_t> order_;
  std::vector<double> cumulative_;  // by rank
  std::vector<int32_t> past_;       // experts of the last `memory` rows, the oldest first
};

}  // namespace

RoutingTrace MakeRouting(const SyntheticRouting& options) {
  MORAINE_CHECK(options.layers > 0 && options.top_k > 0 && options.top_k <= options.experts &&
                options.memory > 0);
  RoutingTrace trace{.layers = options.layers, .experts = options.experts, .top_k = options.top_k};
  std::mt19937_64 random(options.seed);
  std::vector<LayerRouter> routers;
  routers.reserve(static_cast<size_t>(options.layers));
  for (int32_t layer = 0; layer < options.layers; ++layer) routers.emplace_back(options, &random);
  for (int32_t step = options.prompt > 0 ? -1 : 0; step < options.tokens; ++step) {
    RoutingTrace::Step& made = trace.steps.emplace_back();
    made.decode = step >= 0;
    made.rows = made.decode ? 1 : options.prompt;
    for (int32_t layer = 0; layer < options.layers; ++layer) {
      made.layers.push_back({layer, trace.chosen.size()});
      for (int32_t row = 0; row < made.rows; ++row) routers[static_cast<size_t>(layer)].Row(&trace.chosen);
    }
  }
  return trace;
}

double Lag1Overlap(const RoutingTrace& trace) {
  std::vector<std::vector<int32_t>> last(static_cast<size_t>(trace.layers));
  int64_t same = 0;
  int64_t all = 0;
  for (const RoutingTrace::Step& step : trace.steps) {
    for (const RoutingTrace::Layer& layer : step.layers) {
      const std::span<const int32_t> chosen = trace.Chosen(step, layer);
      std::vector<int32_t>& before = last[static_cast<size_t>(layer.layer)];
      for (size_t first = 0; first < chosen.size(); first += static_cast<size_t>(trace.top_k)) {
        const auto row = chosen.subspan(first, static_cast<size_t>(trace.top_k));
        for (const int32_t expert : row)
          if (!before.empty())
            same += std::find(before.begin(), before.end(), expert) != before.end() ? 1 : 0;
        if (!before.empty()) all += trace.top_k;
        before.assign(row.begin(), row.end());
      }
    }
  }
  return all == 0 ? 0 : static_cast<double>(same) / static_cast<double>(all);
}

}  // namespace moraine
