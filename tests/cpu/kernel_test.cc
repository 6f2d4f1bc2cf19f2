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

bool TakesQ8(const KernelRow& row) { return row.op == KernelOp::kQ8Dot || row.op == KernelOp::kQ8Tile; }

// Rows of x in the form `row` takes them, with their own memory.
struct Input {
  Input(const KernelRow& row, const std::vector<std::vector<float>>& rows) : pointers(Pointers(rows)) {
    if (!TakesQ8(row) || rows.empty()) return;
    const auto columns = static_cast<int64_t>(rows[0].size());
    q8 = Q8Rows(static_cast<int64_t>(rows.size()), columns);
    const QuantiseFn quantise = ActivationRows().back().quantise;
    for (size_t t = 0; t < rows.size(); ++t)
      quantise(rows[t].data(), columns, 0, columns, LayoutFor(row.format), q8[static_cast<int64_t>(t)]);
  }
  std::vector<const float*> pointers;
  Q8Rows q8;
};

std::vector<std::vector<float>> RunDot(const KernelRow& row, const MatView& w,
                                       const std::vector<std::vector<float>>& x) {
  std::vector<std::vector<float>> y(x.size(), std::vector<float>(static_cast<size_t>(w.rows), std::nanf("")));
  std::vector<float*> out;
  for (auto& values : y) out.push_back(values.data());
  const Input in(row, x);
  const auto n = static_cast<int64_t>(x.size());
  if (TakesQ8(row)) {
    row.q8_dot(w, 0, w.rows, in.q8.rows(), n, out.data());
  } else {
    row.dot(w, 0, w.rows, in.pointers.data(), n, out.data());
  }
  return y;
}

// What the kernel multiplies with: x itself, or x as its codes say it.
std::vector<float> Seen(const KernelRow& row, const std::vector<float>& x) {
  if (!TakesQ8(row)) return x;
  const Input in(row, {x});
  std::vector<float> seen(x.size());
  for (size_t c = 0; c < x.size(); ++c) {
    const auto column = static_cast<int64_t>(c);
    seen[c] = in.q8[0].scale[column / kQ8Block] *
              static_cast<float>(in.q8[0].codes[Q8Place(LayoutFor(row.format), column)]);
  }
  return seen;
}

// Sizes of groups and scales that a format is stored with.
std::vector<test::MatrixOptions> Variants(WeightFormat format, int64_t columns) {
  if (!IsInteger(format)) return {{}};
  const auto row = static_cast<int32_t>(columns);
  return {{.block = 32, .scale_type = ScaleType::kF16},
          {.block = 64, .scale_type = ScaleType::kBf16},
          {.block = 128, .scale_type = ScaleType::kBf16, .zeros = true},
          {.block = 256, .scale_type = ScaleType::kF32},
          {.block = row, .scale_type = ScaleType::kF32, .zeros = true}};
}

// What an integer weight's zero weighs; 0 in other formats.
double ZeroPart(const MatView& w, int64_t r, int64_t c) {
  if (!IsInteger(w.format)) return 0;
  const int64_t group = c / w.block_columns;
  const double zero = w.RowZeros(r) != nullptr               ? w.RowZeros(r)[group]
                      : w.format == WeightFormat::kInt4Group ? kInt4Zero
                                                             : kInt8Zero;
  return zero *
         static_cast<double>(DecodeScale(w.scale_type, w.RowScales(r) + group * ScaleBytes(w.scale_type)));
}

// |error| <= n u sum |w x|, for every output: the forward bound of a dot product, NaN fails. Integer rows
// form the products of codes and of zeros apart, so both count: |code x| + |zero x| <= |w x| + 2 |zero scale
// x|.
void ExpectDotWithinBound(const MatView& w, const std::vector<float>& x, const std::vector<float>& got) {
  std::vector<float> row(static_cast<size_t>(w.columns));
  for (int64_t r = 0; r < w.rows; ++r) {
    DecodeRow(w, r, row);
    double sum = 0;
    double magnitude = 0;
    for (size_t c = 0; c < row.size(); ++c) {
      const double term = static_cast<double>(row[c]) * static_cast<double>(x[c]);
      sum += term;
      magnitude += std::fabs(term) +
                   2 * ZeroPart(w, r, static_cast<int64_t>(c)) * std::fabs(static_cast<double>(x[c]));
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
    if (row.op != KernelOp::kTransposed) rows.push_back(row);
  }
  return rows;
}

std::string RowName(const ::testing::TestParamInfo<KernelRow>& info) {
  std::string name =
      fmt::format("{}_{}_{}", Name(info.param.op), Describe(info.param.format).name, Name(info.param.isa));
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
}

// Odd sizes, tails of every length, blocks that end inside a vector, and R1's H and I.
constexpr std::pair<int64_t, int64_t> kSizes[] = {{1, 1},   {3, 7},     {2, 8},     {5, 9},    {4, 31},
                                                  {7, 33},  {130, 127}, {129, 128}, {2, 129},  {17, 511},
                                                  {3, 513}, {2, 1537},  {2, 2048},  {2, 7168}, {2, 8300}};

TEST_P(DotRowTest, IsWithinTheBoundOfTheReference) {
  for (const auto& [rows, columns] : kSizes) {
    for (const test::MatrixOptions& options : Variants(GetParam().format, columns)) {
      const Matrix w(GetParam().format, rows, columns, static_cast<uint32_t>(rows * 7919 + columns), options);
      for (const int n : {1, 2, 3, 4, 5, 8, 16, 65}) {
        std::vector<std::vector<float>> x;
        for (int t = 0; t < n; ++t) x.push_back(RandomVector(columns, static_cast<uint32_t>(t + 1)));
        const auto y = RunDot(GetParam(), w.view, x);
        for (int t = 0; t < n; ++t) {
          ASSERT_NO_FATAL_FAILURE(ExpectDotWithinBound(w.view, Seen(GetParam(), x[static_cast<size_t>(t)]),
                                                       y[static_cast<size_t>(t)]));
        }
      }
    }
  }
}

class TransposedRowTest : public KernelRowTest {};

std::vector<KernelRow> TransposedRows() {
  std::vector<KernelRow> rows;
  for (const KernelRow& row : KernelRows()) {
    if (row.op == KernelOp::kTransposed) rows.push_back(row);
  }
  return rows;
}

TEST_P(TransposedRowTest, IsWithinTheBoundOfTheReference) {
  for (const auto& [rows, columns] : kSizes) {
    for (const test::MatrixOptions& options : Variants(GetParam().format, columns)) {
      const Matrix w(GetParam().format, rows, columns, static_cast<uint32_t>(rows * 7919 + columns), options);
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
  const Matrix w(GetParam().format, 37, 1337, 11, {.block = 64});
  std::vector<std::vector<float>> x;
  for (uint32_t t = 0; t < 140; ++t) x.push_back(RandomVector(1337, t));
  const auto all = RunDot(GetParam(), w.view, x);
  for (size_t t = 0; t < x.size(); ++t) ASSERT_EQ(RunDot(GetParam(), w.view, {x[t]})[0], all[t]) << t;
  const MatView slice = w.view.Rows(5, 21);
  const auto part = RunDot(GetParam(), slice, x);
  for (size_t t = 0; t < x.size(); ++t) {
    for (size_t r = 0; r < 16; ++r) ASSERT_EQ(part[t][r], all[t][r + 5]);
  }
}

class FloatRowTest : public KernelRowTest {};

TEST_P(FloatRowTest, NanWeightsStayNan) {
  Matrix w(GetParam().format, 3, 40, 3);
  w.Put(1, 39, std::nanf(""));
  if (GetParam().op != KernelOp::kTransposed) {
    const auto y = RunDot(GetParam(), w.view, {RandomVector(40, 1)});
    EXPECT_TRUE(std::isnan(y[0][1]));
    EXPECT_FALSE(std::isnan(y[0][0]) || std::isnan(y[0][2]));
  } else {
    std::vector<float> y(40);
    GetParam().transposed(w.view, RandomVector(3, 1).data(), y.data());
    EXPECT_TRUE(std::isnan(y[39]));
    EXPECT_FALSE(std::isnan(y[38]));
  }
}

// Integers hold no NaN.
std::vector<KernelRow> FloatRows() {
  std::vector<KernelRow> rows;
  for (const KernelRow& row : KernelRows()) {
    if (!IsInteger(row.format)) rows.push_back(row);
  }
  return rows;
}

INSTANTIATE_TEST_SUITE_P(Table, FloatRowTest, ::testing::ValuesIn(FloatRows()), RowName);

INSTANTIATE_TEST_SUITE_P(Table, TransposedRowTest, ::testing::ValuesIn(TransposedRows()), RowName);

INSTANTIATE_TEST_SUITE_P(Table, DotRowTest, ::testing::ValuesIn(DotRows()), RowName);

TEST(KernelProperties, AnyShapeIsWithinTheBound) {
  EXPECT_TRUE(rc::check([] {
    const KernelRow row = KernelRows()[*rc::gen::inRange<size_t>(0, KernelRows().size())];
    if (row.op == KernelOp::kTransposed || !CpuHas(row.isa)) return;
    const auto rows = *rc::gen::inRange<int64_t>(1, 40);
    const auto columns = *rc::gen::inRange<int64_t>(1, 700);
    // Integer groups are multiples of 32 columns, or whole rows.
    const int32_t block =
        IsInteger(row.format) ? 32 * *rc::gen::inRange<int32_t>(1, 9) : *rc::gen::inRange<int32_t>(1, 200);
    const Matrix w(row.format, rows, columns, *rc::gen::arbitrary<uint32_t>(),
                   {.block = block,
                    .scale_type = *rc::gen::element(ScaleType::kF32, ScaleType::kF16, ScaleType::kBf16),
                    .zeros = *rc::gen::arbitrary<bool>() && IsInteger(row.format)});
    const auto x = RandomVector(columns, 9);
    ExpectDotWithinBound(w.view, Seen(row, x), RunDot(row, w.view, {x})[0]);
    RC_ASSERT(!::testing::Test::HasFatalFailure());
  }));
}

class ActivationRowTest : public ::testing::TestWithParam<ActivationRow> {
 protected:
  void SetUp() override {
    if (!CpuHas(GetParam().isa)) GTEST_SKIP() << WhyNot(GetParam().isa);
  }
};

TEST_P(ActivationRowTest, QuantisesLikeTheReferenceWholeAndInParts) {
  const QuantiseFn reference = ActivationRows().back().quantise;
  for (const int64_t columns : {1, 31, 32, 33, 100, 128, 200, 2048}) {
    std::vector<float> x = RandomVector(columns, static_cast<uint32_t>(columns));
    if (columns > 64) std::fill_n(x.begin() + 32, 32, 0.f);
    for (const Q8Layout layout : {Q8Layout::kPlain, Q8Layout::kPairs}) {
      const Q8Rows rows(3, columns);
      reference(x.data(), columns, 0, columns, layout, rows[0]);
      GetParam().quantise(x.data(), columns, 0, columns, layout, rows[1]);
      for (int64_t c = 0; c < columns; c += kQ8Span)
        GetParam().quantise(x.data(), columns, c, std::min(c + kQ8Span, columns), layout, rows[2]);
      for (const int64_t row : {1, 2}) {
        for (int64_t c = 0; c < PaddedColumns(columns); ++c)
          ASSERT_EQ(rows[row].codes[c], rows[0].codes[c]) << columns << " " << c;
        for (int64_t b = 0; b < PaddedColumns(columns) / kQ8Block; ++b) {
          ASSERT_EQ(rows[row].scale[b], rows[0].scale[b]);
          ASSERT_EQ(rows[row].sum[b], rows[0].sum[b]);
        }
      }
      for (int64_t c = 0; c < columns; ++c) {
        const float scale = rows[1].scale[c / kQ8Block];
        const float value = scale * static_cast<float>(rows[1].codes[Q8Place(layout, c)]);
        ASSERT_LE(std::fabs(value - x[static_cast<size_t>(c)]), 0.5001f * scale);
      }
    }
  }
}

TEST_P(ActivationRowTest, NanAndInfinityMakeTheirSpanNan) {
  constexpr int64_t kColumns = 3 * kQ8Span;
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
    std::vector<float> x = RandomVector(kColumns, 1);
    x[kQ8Span + 40] = bad;
    const Q8Rows rows(1, kColumns);
    GetParam().quantise(x.data(), kColumns, 0, kColumns, Q8Layout::kPlain, rows[0]);
    for (int64_t block = 0; block < kColumns / kQ8Block; ++block)
      EXPECT_EQ(std::isnan(rows[0].scale[block]), block * kQ8Block / kQ8Span == 1) << block;
  }
}

TEST_P(ActivationRowTest, SiluAndExponentialsAreWithinAFewRoundings) {
  std::vector<float> gate;
  for (float value = -120.f; value < 120.f; value += 0.37f) gate.push_back(value);
  gate.push_back(std::nanf(""));
  const std::vector<float> up = RandomVector(static_cast<int64_t>(gate.size()), 3);
  std::vector<float> out(gate.size());
  GetParam().silu(gate.data(), up.data(), static_cast<int64_t>(gate.size()), out.data());
  for (size_t i = 0; i + 1 < gate.size(); ++i) {
    const double g = static_cast<double>(gate[i]);
    const double want = g / (1 + std::exp(-g)) * static_cast<double>(up[i]);
    ASSERT_TRUE(std::fabs(static_cast<double>(out[i]) - want) <= 5e-7 * std::fabs(want) + 1e-30) << gate[i];
  }
  EXPECT_TRUE(std::isnan(out.back()));
  for (const int64_t count : {1, 7, 8, 9, 16, 63}) {
    std::vector<float> values = RandomVector(count, static_cast<uint32_t>(count));
    std::vector<float> got = values;
    got.push_back(42.f);
    const float sum = GetParam().exp_sum(got.data(), count, 4.f);
    double want = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      const double e = std::exp(static_cast<double>(values[i]) - 4);
      ASSERT_TRUE(std::fabs(static_cast<double>(got[i]) - e) <= 5e-7 * e);
      want += e;
    }
    ASSERT_TRUE(std::fabs(static_cast<double>(sum) - want) <= 1e-6 * want);
    EXPECT_EQ(got.back(), 42.f) << "wrote behind the end";
  }
}

INSTANTIATE_TEST_SUITE_P(Table, ActivationRowTest,
                         ::testing::ValuesIn(ActivationRows().begin(), ActivationRows().end()),
                         [](const auto& row) { return std::string(Name(row.param.isa)); });

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
  EXPECT_NE(SelectKernels("auto")->Q8Dot(WeightFormat::kInt4Group), nullptr);
  EXPECT_EQ(SelectKernels("auto", Activations::kF32)->Q8Dot(WeightFormat::kInt4Group), nullptr);
  EXPECT_FALSE(SelectKernels("auto", Activations::kF32)->HasTile(WeightFormat::kInt4Group));
  EXPECT_EQ(SelectKernels("auto")->Q8Dot(WeightFormat::kBf16), nullptr);
  EXPECT_EQ(SelectKernels("sse9").error().kind, ErrorKind::kUsage);
}

}  // namespace
}  // namespace moraine
