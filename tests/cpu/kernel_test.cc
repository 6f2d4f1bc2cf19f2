// Every row of the kernel table that this CPU can run, against the scalar reference and against itself.
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <cmath>
#include <cstring>

#include "cpu/kernel_table.h"
#include "tests/support/compare.h"
#include "tests/support/matrix.h"

namespace moraine {
namespace {

using test::Matrix;
using test::RandomVector;

std::vector<const float*> Pointers(const std::vector<std::vector<float>>& rows) {
  std::vector<const float*> pointers;
  for (const auto& row : rows) pointers.push_back(row.data());
  return pointers;
}

std::vector<std::vector<float>> RunDot(DotFn dot, const MatView& w,
                                       const std::vector<std::vector<float>>& x) {
  std::vector<std::vector<float>> y(x.size(), std::vector<float>(static_cast<size_t>(w.rows), std::nanf("")));
  std::vector<float*> out;
  for (auto& row : y) out.push_back(row.data());
  const auto in = Pointers(x);
  dot(w, 0, w.rows, in.data(), static_cast<int64_t>(x.size()), out.data());
  return y;
}

// |error| <= n u sum |w x|, for every output: the forward bound of a dot product, NaN fails.
void ExpectDotWithinBound(const MatView& w, const std::vector<float>& x, const std::vector<float>& got) {
  std::vector<float> row(static_cast<size_t>(w.columns));
  for (int64_t r = 0; r < w.rows; ++r) {
    DecodeRow(w, r, row);
    double sum = 0;
    double magnitude = 0;
    for (size_t c = 0; c < row.size(); ++c) {
      const double term = static_cast<double>(row[c]) * static_cast<double>(x[c]);
      sum += term;
      magnitude += std::fabs(term);
    }
    const double error = std::fabs(static_cast<double>(got[static_cast<size_t>(r)]) - sum);
    ASSERT_TRUE(error <= test::DotBound(w.columns) * magnitude)
        << Describe(w.format).name << " " << w.rows << "x" << w.columns << " row " << r << ": " << error;
  }
}

class KernelRowTest : public ::testing::TestWithParam<KernelRow> {
 protected:
  void SetUp() override {
    if (!CpuHas(GetParam().isa)) GTEST_SKIP() << WhyNot(GetParam().isa);
  }
};

class DotRowTest : public KernelRowTest {};

std::vector<KernelRow> DotRows() {
  std::vector<KernelRow> rows;
  for (const KernelRow& row : KernelRows()) {
    if (row.op == KernelOp::kDot) rows.push_back(row);
  }
  return rows;
}

std::string RowName(const ::testing::TestParamInfo<KernelRow>& info) {
  std::string name = fmt::format("{}_{}_{}", info.param.op == KernelOp::kDot ? "dot" : "transposed",
                                 Describe(info.param.format).name, Name(info.param.isa));
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
}

// Odd sizes, tails of every length, blocks that end inside a vector, and R1's H and I.
constexpr std::pair<int64_t, int64_t> kSizes[] = {{1, 1},   {3, 7},     {2, 8},     {5, 9},   {4, 31},
                                                  {7, 33},  {130, 127}, {129, 128}, {2, 129}, {17, 511},
                                                  {3, 513}, {2, 1537},  {2, 2048},  {2, 7168}};

TEST_P(KernelRowTest, IsWithinTheBoundOfTheReference) {
  for (const auto& [rows, columns] : kSizes) {
    const Matrix w(GetParam().format, rows, columns, static_cast<uint32_t>(rows * 7919 + columns));
    if (GetParam().op == KernelOp::kDot) {
      for (const int n : {1, 2, 3, 4, 5, 8, 16, 65}) {
        std::vector<std::vector<float>> x;
        for (int t = 0; t < n; ++t) x.push_back(RandomVector(columns, static_cast<uint32_t>(t + 1)));
        const auto y = RunDot(GetParam().dot, w.view, x);
        for (int t = 0; t < n; ++t) {
          ASSERT_NO_FATAL_FAILURE(
              ExpectDotWithinBound(w.view, x[static_cast<size_t>(t)], y[static_cast<size_t>(t)]));
        }
      }
    } else {
      const std::vector<float> x = RandomVector(rows, 5);
      std::vector<float> got(static_cast<size_t>(columns), std::nanf(""));
      GetParam().transposed(w.view, x.data(), got.data());
      std::vector<float> row(static_cast<size_t>(columns));
      std::vector<double> sum(row.size());
      std::vector<double> magnitude(row.size());
      for (int64_t r = 0; r < rows; ++r) {
        DecodeRow(w.view, r, row);
        for (size_t c = 0; c < row.size(); ++c) {
          const double term = static_cast<double>(row[c]) * static_cast<double>(x[static_cast<size_t>(r)]);
          sum[c] += term;
          magnitude[c] += std::fabs(term);
        }
      }
      for (size_t c = 0; c < row.size(); ++c) {
        ASSERT_TRUE(std::fabs(static_cast<double>(got[c]) - sum[c]) <= test::DotBound(rows) * magnitude[c])
            << c;
      }
    }
  }
}

// What exactness rests on: a row's bits depend neither on how many rows of x come with it nor on the slice of
// W.
TEST_P(DotRowTest, GivesTheSameBitsForAnyRowsAndSlices) {
  const Matrix w(GetParam().format, 37, 1337, 11);
  std::vector<std::vector<float>> x;
  for (uint32_t t = 0; t < 70; ++t) x.push_back(RandomVector(1337, t));
  const auto all = RunDot(GetParam().dot, w.view, x);
  for (size_t t = 0; t < x.size(); ++t) ASSERT_EQ(RunDot(GetParam().dot, w.view, {x[t]})[0], all[t]) << t;
  const MatView slice = w.view.Rows(5, 21);
  const auto part = RunDot(GetParam().dot, slice, x);
  for (size_t t = 0; t < x.size(); ++t) {
    for (size_t r = 0; r < 16; ++r) ASSERT_EQ(part[t][r], all[t][r + 5]);
  }
}

TEST_P(KernelRowTest, NanWeightsStayNan) {
  if (IsInteger(GetParam().format)) GTEST_SKIP() << "integers hold no NaN";
  Matrix w(GetParam().format, 3, 40, 3);
  w.Put(1, 39, std::nanf(""));
  if (GetParam().op == KernelOp::kDot) {
    const auto y = RunDot(GetParam().dot, w.view, {RandomVector(40, 1)});
    EXPECT_TRUE(std::isnan(y[0][1]));
    EXPECT_FALSE(std::isnan(y[0][0]) || std::isnan(y[0][2]));
  } else {
    std::vector<float> y(40);
    GetParam().transposed(w.view, RandomVector(3, 1).data(), y.data());
    EXPECT_TRUE(std::isnan(y[39]));
    EXPECT_FALSE(std::isnan(y[38]));
  }
}

INSTANTIATE_TEST_SUITE_P(Table, KernelRowTest, ::testing::ValuesIn(KernelRows().begin(), KernelRows().end()),
                         RowName);

INSTANTIATE_TEST_SUITE_P(Table, DotRowTest, ::testing::ValuesIn(DotRows()), RowName);

TEST(KernelProperties, AnyShapeIsWithinTheBound) {
  rc::check([] {
    const KernelRow row = KernelRows()[*rc::gen::inRange<size_t>(0, KernelRows().size())];
    if (row.op != KernelOp::kDot || !CpuHas(row.isa)) return;
    const auto rows = *rc::gen::inRange<int64_t>(1, 40);
    const auto columns = *rc::gen::inRange<int64_t>(1, 700);
    const auto block = *rc::gen::inRange<int32_t>(1, 200);
    const Matrix w(row.format, rows, columns, *rc::gen::arbitrary<uint32_t>(), {.block = block});
    const auto x = RandomVector(columns, 9);
    ExpectDotWithinBound(w.view, x, RunDot(row.dot, w.view, {x})[0]);
    RC_ASSERT(!::testing::Test::HasFatalFailure());
  });
}

TEST(SelectKernels, FillsEveryFormatAndObeysTheName) {
  for (const char* isa : {"auto", "scalar"}) {
    const auto set = SelectKernels(isa);
    ASSERT_TRUE(set.has_value());
    for (int format = 0; format < kWeightFormats; ++format) {
      EXPECT_NE(set->Dot(static_cast<WeightFormat>(format)), nullptr);
      EXPECT_NE(set->Transposed(static_cast<WeightFormat>(format)), nullptr);
      if (std::string(isa) == "scalar") {
        EXPECT_EQ(set->isa[static_cast<size_t>(format)], Isa::kScalar);
      }
    }
  }
  EXPECT_EQ(SelectKernels("sse9").error().kind, ErrorKind::kUsage);
}

}  // namespace
}  // namespace moraine
