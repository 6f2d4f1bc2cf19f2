// policies/units.h and nearest_name.h.
#include "policies/units.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "policies/nearest_name.h"

namespace moraine {
namespace {

using ::testing::HasSubstr;

TEST(ParseBytes, NeedsAUnitAndKeepsToInt64) {
  EXPECT_EQ(ParseBytes("8GiB"), int64_t{8} << 30);
  EXPECT_EQ(ParseBytes("1.5GB"), 1500000000);
  EXPECT_EQ(ParseBytes("0B"), 0);
  EXPECT_EQ(ParseBytes("7EiB"), int64_t{7} << 60);
  for (const char* bad : {"8", "8G", "GiB", "", "-1GiB", "-0B", "99999EiB", "8EiB", "nanGiB", "infB", "8 GiB",
                          "8gib", "1e400GB", "0x8GiB", "8GiB "}) {
    const auto bytes = ParseBytes(bad);
    ASSERT_FALSE(bytes.has_value()) << bad;
    EXPECT_EQ(bytes.error().kind, ErrorKind::kUsage);
  }
  EXPECT_THAT(ParseBytes("99999EiB").error().message, HasSubstr("more than any machine has"));
}

TEST(ParseRate, NeedsAUnitOfBytesASecond) {
  EXPECT_EQ(ParseRate("80GB/s"), 80e9);
  EXPECT_EQ(ParseRate("7 GB/s"), 7e9);
  EXPECT_EQ(ParseRate("2GiB/s"), 0x1p31);
  EXPECT_EQ(ParseRate("0.5MB/s"), 0.5e6);
  for (const char* bad :
       {"", "/s", "80", "80GB", "80GB/h", "80Gb/s", "-1GB/s", "0GB/s", "GB/s", "80GB/s/s", "nanGB/s"}) {
    const auto rate = ParseRate(bad);
    ASSERT_FALSE(rate.has_value()) << bad;
    EXPECT_EQ(rate.error().kind, ErrorKind::kUsage);
    EXPECT_NE(rate.error().message.find("80GB/s"), std::string::npos);
  }
}

TEST(ParseSeconds, NeedsAUnit) {
  EXPECT_EQ(ParseSeconds("30s"), 30);
  EXPECT_EQ(ParseSeconds("500ms"), 0.5);
  EXPECT_EQ(ParseSeconds("2min"), 120);
  for (const char* bad : {"30", "s", "-1s", "30S", "infs", "1e3s"})
    EXPECT_FALSE(ParseSeconds(bad).has_value()) << bad;
}

TEST(FormatUnits, ReadBackTheSame) {
  EXPECT_EQ(FormatBytes(int64_t{8} << 30), "8GiB");
  EXPECT_EQ(FormatBytes(1500), "1500B");
  EXPECT_EQ(FormatBytes(0), "0B");
  EXPECT_EQ(FormatSeconds(30), "30s");
  EXPECT_EQ(FormatSeconds(0.25), "250ms");
  EXPECT_TRUE(rc::check([] {
    const auto bytes = *rc::gen::inRange<int64_t>(0, int64_t{1} << 52);
    RC_ASSERT(ParseBytes(FormatBytes(bytes)) == bytes);
  }));
}

TEST(NearestName, FindsSlipsOfThePen) {
  const std::vector<std::string_view> known = {"policy", "half_life", "slow_half_life", "hysteresis"};
  EXPECT_EQ(NearestName("polcy", known), "policy");
  EXPECT_EQ(NearestName("ploicy", known), "policy");
  EXPECT_EQ(NearestName("halflife", known), "half_life");
  EXPECT_EQ(NearestName("hysterisis", known), "hysteresis");
  EXPECT_EQ(NearestName("banana", known), "");
  EXPECT_EQ(NearestName("", known), "");
  EXPECT_EQ(NearestName(std::string(1000, 'x'), known), "");
}

}  // namespace
}  // namespace moraine
