// tools/hardware_cache.h.
#include "tools/hardware_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "tests/support/temp_folder.h"

namespace moraine::tools {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

Figure Measured(double value) { return {value, Origin::kMeasured, "measured 2026-11-25"}; }

MeasuredRates Rates() {
  MeasuredRates rates;
  rates.fingerprint = "a machine";
  rates.date = "2026-11-25";
  rates.memory_read = 33.1e9;
  rates.node_memory = {16e9, 17.1e9};
  rates.attention_flops = 42e9;
  rates.experts = {{"fp8",
                    WeightFormat::kFp8E4M3Block,
                    128,
                    Measured(23e9),
                    {{64, Measured(7e11)}, {512, Measured(1.4e12)}}},
                   {"int4-g64", WeightFormat::kInt4Group, 64, Measured(27e9), {}}};
  rates.drives = {{"nvme0n1, Fast, ext4", "2026-11-24", 6.5e9, {{1, 2e9}, {16, 6.5e9}}, "a note"}};
  rates.notes = {"said once"};
  return rates;
}

struct Cache {
  CachedRates Load(const std::string& fingerprint = "a machine") const {
    return LoadHardwareCache(path, fingerprint);
  }
  Status Save(const MeasuredRates& rates) const { return SaveHardwareCache(path, rates); }
  test::TempFolder folder;
  std::string path = folder / "new/moraine/hardware.json";
};

TEST(HardwareCache, ComesBackAsItWas) {
  const Cache cache;
  ASSERT_TRUE(cache.Save(Rates()).has_value());
  const CachedRates back = cache.Load();
  ASSERT_TRUE(back.rates.has_value()) << back.notice;
  EXPECT_EQ(back.notice, "");
  const MeasuredRates& r = *back.rates;
  EXPECT_EQ(r.fingerprint, "a machine");
  EXPECT_EQ(r.date, "2026-11-25");
  EXPECT_EQ(r.memory_read, 33.1e9);
  EXPECT_EQ(r.node_memory, Rates().node_memory);
  EXPECT_EQ(r.attention_flops, 42e9);
  ASSERT_EQ(r.experts.size(), 2u);
  EXPECT_EQ(r.experts[0].format, WeightFormat::kFp8E4M3Block);
  EXPECT_EQ(r.experts[0].group, 128);
  EXPECT_EQ(r.experts[0].decode_bytes_s.value, 23e9);
  EXPECT_EQ(r.experts[0].decode_bytes_s.origin, Origin::kMeasured);
  EXPECT_EQ(r.experts[0].decode_bytes_s.from, "measured 2026-11-25");
  ASSERT_EQ(r.experts[0].prefill.size(), 2u);
  EXPECT_EQ(r.experts[0].prefill[1].rows, 512);
  EXPECT_EQ(r.experts[0].prefill[1].flops_s.value, 1.4e12);
  ASSERT_EQ(r.drives.size(), 1u);
  EXPECT_EQ(r.drives[0].key, "nvme0n1, Fast, ext4");
  EXPECT_EQ(r.drives[0].by_depth[1].depth, 16);
  EXPECT_EQ(r.drives[0].by_depth[1].bytes_s, 6.5e9);
  EXPECT_EQ(r.drives[0].note, "a note");
  EXPECT_EQ(r.notes, Rates().notes);
}

TEST(HardwareCache, IsForTheUsersEyesAndLeavesNothingBesideIt) {
  const Cache cache;
  ASSERT_TRUE(cache.Save(Rates()).has_value());
  for (const std::string& at : {cache.folder / "new", cache.folder / "new/moraine"}) {
    struct stat status {};
    ASSERT_EQ(::stat(at.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0700u) << at;
  }
  struct stat status {};
  ASSERT_EQ(::stat(cache.path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  const fs::path folder = fs::path(cache.path).parent_path();
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator()), 1);
}

TEST(HardwareCache, NoneIsNothingToSay) {
  const Cache cache;
  EXPECT_FALSE(cache.Load().rates.has_value());
  EXPECT_EQ(cache.Load().notice, "");
  EXPECT_EQ(LoadHardwareCache("", "a machine").notice, "");
}

TEST(HardwareCache, AnotherMachinesIsIgnoredAndSaid) {
  const Cache cache;
  ASSERT_TRUE(cache.Save(Rates()).has_value());
  const CachedRates other = cache.Load("another machine");
  EXPECT_FALSE(other.rates.has_value());
  EXPECT_THAT(other.notice, HasSubstr("another machine (a machine)"));
}

TEST(HardwareCache, WhatIsCorruptIsIgnoredAndSaid) {
  const Cache cache;
  ASSERT_TRUE(cache.Save(Rates()).has_value());
  const std::string good = test::ReadFile(cache.path);
  const auto broken = [&](const std::string& text) {
    test::WriteFile(cache.path, text);
    const CachedRates loaded = cache.Load();
    EXPECT_FALSE(loaded.rates.has_value()) << text.substr(0, 200);
    EXPECT_THAT(loaded.notice, HasSubstr("is not used"));
  };
  const auto with = [&](const std::string& from, const std::string& to) {
    const size_t at = good.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return std::string(good).replace(at, from.size(), to);
  };
  broken("");
  broken(good.substr(0, good.size() / 2));
  broken("[]");
  broken(with("\"schema\": 1", "\"schema\": 2"));
  broken(with("33100000000.0", "-1"));
  broken(with("33100000000.0", "1e300"));
  broken(with("33100000000.0", "\"fast\""));
  broken(with("\"rows\": 64", "\"rows\": -64"));
  broken(with("\"group\": 128", "\"group\": 1.5"));
  broken(with("int4-group", "int3-group"));
  broken(with("\"drives\"", "\"drive\""));
  broken(std::string(good).insert(2, std::string(2 << 20, ' ')));
  test::WriteFile(cache.path, good);
  EXPECT_TRUE(cache.Load().rates.has_value());
  // A corrupt one does not stand in the way of the next.
  broken("{");
  EXPECT_TRUE(cache.Save(Rates()).has_value());
  EXPECT_TRUE(cache.Load().rates.has_value());
}

TEST(HardwareCache, KeepsWhatANewMeasurementLeftOut) {
  const Cache cache;
  ASSERT_TRUE(cache.Save(Rates()).has_value());
  MeasuredRates drive_only;
  drive_only.fingerprint = "a machine";
  drive_only.date = "2026-12-01";
  drive_only.drives = {{"sda, Slow, xfs", "2026-12-01", 0.2e9, {}, ""},
                       {"", "2026-12-01", 1e9, {}, "no name"}};
  ASSERT_TRUE(cache.Save(drive_only).has_value());
  MeasuredRates r = *cache.Load().rates;
  EXPECT_EQ(r.memory_read, 33.1e9);
  EXPECT_EQ(r.date, "2026-11-25") << "of the memory's figures";
  EXPECT_EQ(r.experts.size(), 2u);
  EXPECT_EQ(r.drives.size(), 2u) << "a drive without a name is not kept";
  MeasuredRates newer = Rates();
  newer.memory_read = 20e9;
  newer.experts.resize(1);
  newer.experts[0].decode_bytes_s.value = 11e9;
  newer.drives[0].bytes_s = 5e9;
  ASSERT_TRUE(cache.Save(newer).has_value());
  r = *cache.Load().rates;
  EXPECT_EQ(r.memory_read, 20e9);
  EXPECT_EQ(r.experts.size(), 2u);
  EXPECT_EQ(r.experts[0].decode_bytes_s.value, 11e9);
  EXPECT_EQ(r.drives.size(), 2u);
  EXPECT_EQ(r.drives[0].bytes_s, 5e9);
  newer.fingerprint = "another";
  ASSERT_TRUE(cache.Save(newer).has_value());
  EXPECT_EQ(cache.Load("another").rates->experts.size(), 1u) << "nothing of the other machine";
}

TEST(HardwareCache, NobodySeesHalfOfIt) {
  const Cache cache;
  ASSERT_TRUE(cache.Save(Rates()).has_value());
  MeasuredRates large = Rates();
  large.notes.assign(2000, "a long note, so that writing takes more than one page");
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (int i = 0; i < 60; ++i) EXPECT_TRUE(cache.Save(i % 2 == 0 ? large : Rates()).has_value());
    stop = true;
  });
  int reads = 0;
  while (!stop || reads == 0) {
    const CachedRates seen = cache.Load();
    EXPECT_TRUE(seen.rates.has_value()) << seen.notice;
    ++reads;
  }
  writer.join();
}

TEST(HardwareCache, AFolderThatCannotBeMadeIsSaid) {
  const Cache cache;
  test::WriteFile(cache.folder / "new", "a file in the way");
  const Status status = cache.Save(Rates());
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().kind, ErrorKind::kIo);
  EXPECT_THAT(status.error().message, HasSubstr("new"));
  EXPECT_FALSE(SaveHardwareCache("", Rates()).has_value());
}

TEST(HardwareCache, LiesWhereTheEnvironmentSays) {
  const char* old_cache = std::getenv("XDG_CACHE_HOME");
  const char* old_home = std::getenv("HOME");
  const std::string cache = old_cache == nullptr ? "" : old_cache;
  const std::string home = old_home == nullptr ? "" : old_home;
  setenv("HOME", "/home/me", 1);
  setenv("XDG_CACHE_HOME", "/somewhere", 1);
  EXPECT_EQ(HardwareCachePath(), "/somewhere/moraine/hardware.json");
  setenv("XDG_CACHE_HOME", "not/absolute", 1);
  EXPECT_EQ(HardwareCachePath(), "/home/me/.cache/moraine/hardware.json");
  unsetenv("XDG_CACHE_HOME");
  EXPECT_EQ(HardwareCachePath(), "/home/me/.cache/moraine/hardware.json");
  unsetenv("HOME");
  EXPECT_EQ(HardwareCachePath(), "");
  if (old_home != nullptr) setenv("HOME", home.c_str(), 1);
  if (old_cache != nullptr) setenv("XDG_CACHE_HOME", cache.c_str(), 1);
}

}  // namespace
}  // namespace moraine::tools
