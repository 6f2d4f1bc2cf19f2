// cpu/gemm/prefill_gemm.h and the experts that go through it: against double arithmetic for every format and
// from 1 to 600 rows, and the same bits whatever else is in the batch.
#include "cpu/gemm/prefill_gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "cpu/cpu_experts.h"
#include "cpu/gated_mlp.h"
#include "tests/support/compare.h"
#include "tests/support/matrix.h"

namespace moraine {
namespace {

using test::Matrix;
using test::RandomVector;

constexpr int64_t kHidden = 1100;  // two parts of depth, the second of them padded
constexpr int64_t kInner = 203;    // odd: the last pair of bf16 is half empty
constexpr int32_t kTopK = 2;

struct Fixture {
  explicit Fixture(WeightFormat format, bool f32_only = false, int threads = 2)
      : gate(format, kInner, kHidden, 1), up(format, kInner, kHidden, 2), down(format, kHidden, kInner, 3) {
    auto made = PrefillGemm::Create({.f32_only = f32_only, .workers = threads});
    if (made.has_value()) gemm = *std::move(made);
    kernels.gemm = gemm.get();
    shape.hidden = kHidden;
    shape.expert_inter = kInner;
    shape.experts = 4;
    shape.top_k = kTopK;
  }

  MlpWeights Weights() const { return {gate.view, up.view, down.view}; }

  // The expert's output for each row of x, in double.
  std::vector<float> Reference(const std::vector<float>& x) const {
    std::vector<float> y;
    for (auto at = x.begin(); at != x.end(); at += kHidden) {
      const std::vector<double> in(at, at + kHidden);
      std::vector<double> g = test::Product(gate.view, in);
      const std::vector<double> u = test::Product(up.view, in);
      for (size_t i = 0; i < g.size(); ++i) g[i] = g[i] / (1 + std::exp(-g[i])) * u[i];
      for (const double value : test::Product(down.view, g)) y.push_back(static_cast<float>(value));
    }
    return y;
  }

  // Sum of the fixture's expert, chosen by the rows [0, n) of x, and of `others`, over n rows.
  std::vector<float> Run(const std::vector<float>& x, int32_t n, int threads,
                         const std::vector<ExpertSlice>& cut, const std::vector<int32_t>& few = {}) {
    std::vector<WorkerPlace> places;
    for (int32_t node = 0; node < static_cast<int32_t>(cut.size()); ++node) {
      for (int i = 0; i < threads; ++i) places.push_back({.node = NodeId{node}});
    }
    WorkerPool pool(places);
    const WeightFormat format = gate.view.format;
    CpuExperts experts(shape, n, {{format}}, kernels, &pool);
    std::vector<int32_t> rows;
    for (int32_t i = 0; i < n; ++i) rows.push_back(i);
    const std::vector<float> gains(static_cast<size_t>(n), 0.75f);
    std::vector<ExpertWork> work;
    if (!few.empty())
      work.push_back({.expert = ExpertId{0}, .slices = cut, .rows = few, .gains = gains, .ready = {}});
    work.push_back({.expert = ExpertId{1}, .slices = cut, .rows = rows, .gains = gains, .ready = {}});
    const auto sum = experts.Run({.layer = LayerId{0}, .rows = n, .inputs = x.data(), .work = work});
    EXPECT_TRUE(sum.has_value());
    return {sum->values, sum->values + n * kHidden};
  }
  std::vector<ExpertSlice> Whole() const { return {{.weights = Weights()}}; }

  Matrix gate, up, down;
  ModelShape shape;
  KernelSet kernels = *SelectKernels("auto", Activations::kF32);
  std::unique_ptr<PrefillGemm> gemm;
};

std::vector<float> Times(std::vector<float> values, float gain) {
  for (float& value : values) value *= gain;
  return values;
}

class PrefillGemmTest : public ::testing::TestWithParam<int> {
 protected:
  WeightFormat format() const { return static_cast<WeightFormat>(GetParam()); }
};

// bf16 rounds weights, inputs and hidden values by at most 2^-9 each; independent, they add to 2^-9 or so.
double Bound(const PrefillGemm& gemm, WeightFormat format) {
  return gemm.ValueBytes(format) == 2 ? 8e-3 : 3e-6;
}

TEST_P(PrefillGemmTest, ExpertsMatchTheDefinition) {
  for (const bool f32_only : {false, true}) {
    Fixture f(format(), f32_only);
    if (f.gemm == nullptr) GTEST_SKIP() << "no oneDNN here";
    const auto x = RandomVector(129 * kHidden, 5);
    const auto want = Times(f.Reference(x), 0.75f);
    for (const int32_t n : {1, 5, 8, 15, 16, 17, 63, 64, 65, 129}) {
      const auto got = f.Run(x, n, 2, f.Whole());
      EXPECT_LE(test::RelativeError(got, std::span(want).first(got.size())), Bound(*f.gemm, format())) << n;
    }
    const GemmReport report = f.gemm->Report();
    EXPECT_TRUE(report.refused.empty()) << report.refused.front();
    EXPECT_GT(report.gemm_flops, 0);
    EXPECT_FALSE(report.made.empty());
    for (const GemmUse& use : report.made) EXPECT_NE(use.implementation.rfind("ref", 0), 0u);
  }
}

// A row's bits: any number of rows beside it, any threads, any nodes.
TEST_P(PrefillGemmTest, RowsThreadsAndNodesChangeNoBit) {
  Fixture f(format(), false, 6);
  if (f.gemm == nullptr) GTEST_SKIP() << "no oneDNN here";
  const auto x = RandomVector(600 * kHidden, 9);
  const auto all = f.Run(x, 600, 2, f.Whole());
  for (const int32_t n : {21, 33, 47, 64, 100, 513}) {
    const auto some = f.Run(x, n, 2, f.Whole());
    ASSERT_TRUE(std::equal(some.begin(), some.end(), all.begin())) << n;
  }
  for (const int threads : {1, 3, 6})
    ASSERT_EQ(f.Run(x, 100, threads, f.Whole()), f.Run(x, 100, 2, f.Whole()));
  const std::vector<ExpertSlice> halves = {
      {.weights = {f.gate.view.Rows(0, 128), f.up.view.Rows(0, 128), f.down.view.Rows(0, 640)}},
      {.inner_begin = 128,
       .hidden_begin = 640,
       .weights = {f.gate.view.Rows(128, kInner), f.up.view.Rows(128, kInner),
                   f.down.view.Rows(640, kHidden)}}};
  ASSERT_EQ(f.Run(x, 100, 3, halves), f.Run(x, 100, 2, f.Whole()));
}

// An expert left to the kernels comes before one that is not: both reach their rows, in ascending order.
TEST_P(PrefillGemmTest, FewAndManyRowsShareABatch) {
  Fixture f(format());
  if (f.gemm == nullptr) GTEST_SKIP() << "no oneDNN here";
  const auto x = RandomVector(40 * kHidden, 4);
  auto want = Times(f.Reference(x), 0.75f);
  for (size_t i = 0; i < 3; ++i) {
    for (size_t c = 0; c < kHidden; ++c) want[(10 * i + 1) * kHidden + c] *= 2;
  }
  EXPECT_LE(test::RelativeError(f.Run(x, 40, 2, f.Whole(), {1, 11, 21}), want), Bound(*f.gemm, format()));
  EXPECT_GT(f.gemm->Report().other_flops, 0);
  EXPECT_GT(f.gemm->Report().Share(), 0.9);
}

TEST_P(PrefillGemmTest, GatedMlpAndMultiplyTakeManyRows) {
  Fixture f(format());
  if (f.gemm == nullptr) GTEST_SKIP() << "no oneDNN here";
  f.gemm->Prepare(format(), kHidden);
  f.gemm->Prepare(format(), kInner);
  f.gemm->Reserve(70, kHidden, kInner);
  WorkerPool pool(2);
  GatedMlp mlp(kInner, 70);
  for (const int64_t n : {3, 16, 70}) {
    auto x = RandomVector(n * kHidden, 8);
    std::vector<float> y(static_cast<size_t>(n * kHidden), std::nanf(""));
    RowPointers in(n);
    RowPointers out(n);
    mlp.Run(pool, f.kernels, f.Weights(), in.Fill(x.data(), kHidden, n), n, out.Fill(y.data(), kHidden, n));
    EXPECT_LE(test::RelativeError(y, f.Reference(x)), Bound(*f.gemm, format())) << n;
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, PrefillGemmTest, ::testing::Range(0, kWeightFormats),
                         [](const auto& format) {
                           std::string name(Describe(static_cast<WeightFormat>(format.param)).name);
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace moraine
