// cpu/cpu_experts.h: against each expert run by itself in double, for every way rows can choose.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
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
// No multiples of 128: the last slice of a node is shorter. More than two nodes leave some with nothing of I.
constexpr int64_t kHidden = 392;
constexpr int64_t kInner = 200;

ModelShape Shape() {
  ModelShape s;
  s.hidden = kHidden;
  s.expert_inter = kInner;
  s.experts = kExperts;
  s.top_k = 5;
  return s;
}

// `threads` workers on each of `nodes` nodes, bound to nothing.
std::vector<WorkerPlace> Places(int nodes, int threads) {
  std::vector<WorkerPlace> places;
  for (int32_t n = 0; n < nodes; ++n) {
    for (int i = 0; i < threads; ++i) places.push_back({.node = NodeId{n}});
  }
  return places;
}

struct Fixture {
  explicit Fixture(WeightFormat format_in = WeightFormat::kFp8E4M3Block) : shape(Shape()), format(format_in) {
    const test::MatrixOptions options = IsInteger(format)
                                            ? test::MatrixOptions{.block = 64, .scale_type = ScaleType::kBf16}
                                            : test::MatrixOptions{};
    for (uint32_t e = 0; e < kExperts; ++e) {
      gate.push_back(std::make_unique<Matrix>(format, kInner, kHidden, 10 * e, options));
      up.push_back(std::make_unique<Matrix>(format, kInner, kHidden, 10 * e + 1, options));
      down.push_back(std::make_unique<Matrix>(format, kHidden, kInner, 10 * e + 2, options));
    }
    Cut(1);
  }

  // Cuts every expert for `nodes`, at multiples of 128 rows.
  void Cut(int64_t nodes) {
    weights.clear();
    const auto boundary = [nodes](int64_t rows, int64_t n) {
      const int64_t units = (rows + 127) / 128;
      return std::min(rows, (units * n + nodes - 1) / nodes * 128);
    };
    for (size_t e = 0; e < kExperts; ++e) {
      for (int64_t n = 0; n < nodes; ++n) {
        const int64_t inner = boundary(kInner, n);
        const int64_t inner_end = boundary(kInner, n + 1);
        const int64_t hidden = boundary(kHidden, n);
        weights.push_back(
            {.inner_begin = inner,
             .hidden_begin = hidden,
             .weights = {gate[e]->view.Rows(inner, inner_end), up[e]->view.Rows(inner, inner_end),
                         down[e]->view.Rows(hidden, boundary(kHidden, n + 1))}});
      }
    }
    slices = static_cast<size_t>(nodes);
  }
  std::span<const ExpertSlice> Expert(int32_t e) const {
    return std::span(weights).subspan(static_cast<size_t>(e) * slices, slices);
  }

  // Only the matrices count here, not how they are cut.
  std::vector<float> Reference(const std::vector<float>& inputs, int32_t rows,
                               const std::vector<ExpertWork>& work) const {
    std::vector<float> sums(static_cast<size_t>(rows * kHidden));
    for (const ExpertWork& item : work) {
      const auto e = static_cast<size_t>(item.expert.value);
      for (size_t i = 0; i < item.rows.size(); ++i) {
        const auto begin = inputs.begin() + item.rows[i] * kHidden;
        const std::vector<double> x(begin, begin + kHidden);
        auto hidden = test::Product(gate[e]->view, x);
        const auto ups = test::Product(up[e]->view, x);
        for (size_t k = 0; k < hidden.size(); ++k)
          hidden[k] = hidden[k] / (1 + std::exp(-hidden[k])) * ups[k];
        const auto out = test::Product(down[e]->view, hidden);
        for (size_t k = 0; k < out.size(); ++k) {
          sums[static_cast<size_t>(item.rows[i] * kHidden) + k] +=
              static_cast<float>(static_cast<double>(item.gains[i]) * out[k]);
        }
      }
    }
    return sums;
  }

  std::vector<float> Run(const std::vector<float>& inputs, int32_t rows, std::vector<ExpertWork> work,
                         int nodes, int threads, Activations activations = Activations::kAuto) {
    Cut(nodes);
    for (ExpertWork& item : work) item.slices = Expert(item.expert.value);
    WorkerPool pool(Places(nodes, threads));
    const std::array formats = {format};
    CpuExperts experts(shape, 32, formats, *SelectKernels("auto", activations), &pool);
    const auto sum = experts.Run({.layer = LayerId{3}, .rows = rows, .inputs = inputs.data(), .work = work});
    EXPECT_TRUE(sum.has_value());
    return {sum->values, sum->values + rows * kHidden};
  }

  ModelShape shape;
  WeightFormat format;
  std::vector<std::unique_ptr<Matrix>> gate, up, down;
  std::vector<ExpertSlice> weights;  // [expert][node]
  size_t slices = 1;
};

class CpuExpertsTest : public ::testing::TestWithParam<WeightFormat> {};

TEST_P(CpuExpertsTest, MatchTheDefinitionForEveryWayOfChoosingOnAnyNodesAndThreads) {
  Fixture f(GetParam());
  const int32_t rows = 20;
  const auto inputs = RandomVector(rows * kHidden, 77);
  std::vector<int32_t> all(rows);
  for (int32_t i = 0; i < rows; ++i) all[static_cast<size_t>(i)] = i;
  const std::vector<int32_t> one = {7};
  const std::vector<float> gains = RandomVector(rows, 78);
  const auto work = [&](int32_t expert, const std::vector<int32_t>& chosen) {
    return ExpertWork{
        .expert = ExpertId{expert}, .rows = chosen, .gains = std::span(gains).first(chosen.size())};
  };
  const std::vector<std::vector<ExpertWork>> cases = {
      {work(2, all)},                                                          // everyone to one expert
      {work(0, all), work(1, all), work(2, all), work(3, all), work(4, all)},  // top-k = all
      {work(0, one), work(3, all), work(4, one)},                              // uneven
      {},                                                                      // nobody
  };
  for (const auto& chosen : cases) {
    const auto got = f.Run(inputs, rows, chosen, 1, 2);
    if (chosen.empty()) {
      EXPECT_EQ(got, std::vector<float>(got.size(), 0.f));
    } else {
      const auto want = f.Reference(inputs, rows, chosen);
      EXPECT_LE(test::RelativeError(f.Run(inputs, rows, chosen, 1, 2, Activations::kF32), want), 2e-6);
      // Twice quantised to eight bits with a scale for 128 columns: a step is 1/45 of a normal input's
      // deviation.
      if (IsInteger(GetParam())) {
        EXPECT_LE(test::RelativeError(got, want), 1.5e-2);
      }
    }
    for (const int nodes : {1, 2, 3, 8}) {
      for (const int threads : {1, 3})
        EXPECT_EQ(got, f.Run(inputs, rows, chosen, nodes, threads)) << nodes << " nodes, " << threads;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, CpuExpertsTest,
                         ::testing::Values(WeightFormat::kFp8E4M3Block, WeightFormat::kBf16,
                                           WeightFormat::kInt8Group, WeightFormat::kInt4Group),
                         [](const auto& format) {
                           std::string name(Describe(format.param).name);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

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
  const ExpertWork work{
      .expert = ExpertId{2}, .slices = f.Expert(2), .rows = rows, .gains = gains, .ready = Ticket(&fetch, 1)};
  WorkerPool pool(1);
  CpuExperts experts(f.shape, 4, {}, *SelectKernels("auto"), &pool);
  const auto inputs = RandomVector(kHidden, 1);
  const auto sum = experts.Run({.layer = LayerId{3}, .rows = 1, .inputs = inputs.data(), .work = {&work, 1}});
  ASSERT_FALSE(sum.has_value());
  EXPECT_EQ(sum.error().message, "expert 2 of layer 3: short read");
}

}  // namespace
}  // namespace moraine
