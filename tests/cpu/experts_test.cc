// cpu/cpu_experts.h: against each expert run by itself in double, for every way rows can choose.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "cpu/cpu_experts.h"
#include "tests/support/compare.h"
#include "tests/support/matrix.h"

namespace moraine {
namespace {

using test::Matrix;
using test::RandomVector;

constexpr int32_t kExperts = 5;

ModelShape Shape() {
  ModelShape s;
  s.hidden = 200;
  s.expert_inter = 72;
  s.experts = kExperts;
  s.top_k = 5;
  return s;
}

struct Fixture {
  Fixture() : shape(Shape()) {
    for (uint32_t e = 0; e < kExperts; ++e) {
      gate.push_back(std::make_unique<Matrix>(WeightFormat::kFp8E4M3Block, 72, 200, 10 * e));
      up.push_back(std::make_unique<Matrix>(WeightFormat::kFp8E4M3Block, 72, 200, 10 * e + 1));
      down.push_back(std::make_unique<Matrix>(WeightFormat::kFp8E4M3Block, 200, 72, 10 * e + 2));
      weights.push_back({.weights = {gate.back()->view, up.back()->view, down.back()->view}});
    }
  }

  static std::vector<double> Product(const MatView& w, const std::vector<double>& x) {
    std::vector<float> row(static_cast<size_t>(w.columns));
    std::vector<double> y;
    for (int64_t r = 0; r < w.rows; ++r) {
      DecodeRow(w, r, row);
      double sum = 0;
      for (size_t c = 0; c < row.size(); ++c) sum += static_cast<double>(row[c]) * x[c];
      y.push_back(sum);
    }
    return y;
  }

  std::vector<float> Reference(const std::vector<float>& inputs, int32_t rows,
                               const std::vector<ExpertWork>& work) const {
    std::vector<float> sums(static_cast<size_t>(rows) * 200);
    for (const ExpertWork& item : work) {
      for (size_t i = 0; i < item.rows.size(); ++i) {
        const auto begin = inputs.begin() + item.rows[i] * 200;
        const std::vector<double> x(begin, begin + 200);
        auto hidden = Product(item.slices[0].weights.gate, x);
        const auto ups = Product(item.slices[0].weights.up, x);
        for (size_t k = 0; k < hidden.size(); ++k)
          hidden[k] = hidden[k] / (1 + std::exp(-hidden[k])) * ups[k];
        const auto out = Product(item.slices[0].weights.down, hidden);
        for (size_t k = 0; k < 200; ++k) {
          sums[static_cast<size_t>(item.rows[i]) * 200 + k] +=
              static_cast<float>(static_cast<double>(item.gains[i]) * out[k]);
        }
      }
    }
    return sums;
  }

  std::vector<float> Run(const std::vector<float>& inputs, int32_t rows, const std::vector<ExpertWork>& work,
                         int threads) const {
    WorkerPool pool(threads);
    CpuExperts experts(shape, 32, {}, *SelectKernels("auto"), &pool);
    const auto sum = experts.Run({.layer = LayerId{3}, .rows = rows, .inputs = inputs.data(), .work = work});
    EXPECT_TRUE(sum.has_value());
    return {sum->values, sum->values + rows * 200};
  }

  ModelShape shape;
  std::vector<std::unique_ptr<Matrix>> gate, up, down;
  std::vector<ExpertSlice> weights;
};

TEST(CpuExperts, MatchTheDefinitionForEveryWayOfChoosing) {
  const Fixture f;
  const int32_t rows = 20;
  const auto inputs = RandomVector(rows * 200, 77);
  std::vector<int32_t> all(rows);
  for (int32_t i = 0; i < rows; ++i) all[static_cast<size_t>(i)] = i;
  const std::vector<int32_t> one = {7};
  const std::vector<float> gains = RandomVector(rows, 78);
  const auto work = [&](int32_t expert, const std::vector<int32_t>& chosen) {
    return ExpertWork{.expert = ExpertId{expert},
                      .slices = {&f.weights[static_cast<size_t>(expert)], 1},
                      .rows = chosen,
                      .gains = std::span(gains).first(chosen.size())};
  };
  const std::vector<std::vector<ExpertWork>> cases = {
      {work(2, all)},                                                          // everyone to one expert
      {work(0, all), work(1, all), work(2, all), work(3, all), work(4, all)},  // top-k = all
      {work(0, one), work(3, all), work(4, one)},                              // uneven
      {},                                                                      // nobody
  };
  for (const auto& chosen : cases) {
    const auto got = f.Run(inputs, rows, chosen, 2);
    if (chosen.empty()) {
      EXPECT_EQ(got, std::vector<float>(got.size(), 0.f));
    } else {
      EXPECT_LE(test::RelativeError(got, f.Reference(inputs, rows, chosen)), 2e-6);
    }
    EXPECT_EQ(got, f.Run(inputs, rows, chosen, 1)) << "threads changed a bit";
    EXPECT_EQ(got, f.Run(inputs, rows, chosen, 3)) << "threads changed a bit";
  }
}

class FailedFetch : public TicketSource {
 public:
  Status Wait(uint64_t) override { return Fail(ErrorKind::kIo, "expert 2 of layer 3: short read"); }
  bool Done(uint64_t) override { return true; }
};

TEST(CpuExperts, AFailedFetchIsReportedNotComputed) {
  const Fixture f;
  FailedFetch fetch;
  const std::vector<int32_t> rows = {0};
  const std::vector<float> gains = {1.f};
  const ExpertWork work{.expert = ExpertId{2},
                        .slices = {&f.weights[2], 1},
                        .rows = rows,
                        .gains = gains,
                        .ready = Ticket(&fetch, 1)};
  WorkerPool pool(1);
  CpuExperts experts(f.shape, 4, {}, *SelectKernels("auto"), &pool);
  const auto inputs = RandomVector(200, 1);
  const auto sum = experts.Run({.layer = LayerId{3}, .rows = 1, .inputs = inputs.data(), .work = {&work, 1}});
  ASSERT_FALSE(sum.has_value());
  EXPECT_EQ(sum.error().message, "expert 2 of layer 3: short read");
}

}  // namespace
}  // namespace moraine
