// runtime/disk_cache/disk_prefix.h under a scheduler: what comes from the drive changes no bit, and only its
// owner's requests get it.
#include "runtime/disk_cache/disk_prefix.h"

#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <mutex>

#include "runtime/scheduler.h"
#include "tests/support/golden.h"
#include "tests/support/in_child.h"
#include "tests/support/recording_sink.h"
#include "tests/support/temp_folder.h"

namespace moraine {
namespace {

namespace fs = std::filesystem;
using test::Golden;
using test::RecordingSink;
using test::TempFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int32_t kChunk = 16;
constexpr int32_t kPage = 8;

class DiskPrefixTest : public ::testing::Test {
 protected:
  // A scheduler as after a restart: nothing in memory.
  void Start(const EngineOptions& more = {}, Digest realm = {}) {
    scheduler_.reset();
    EngineOptions options = more;
    options.context = 160;
    options.sequences = 4;
    options.prefill_chunk = kChunk;
    options.page_tokens = kPage;
    options.disk_prefix = true;
    auto engine = Engine::Open(Golden("v3-fp8").folder(), options);
    ASSERT_TRUE(engine.has_value()) << engine.error().message;
    SchedulerOptions scheduling;
    if (on_disk_) {
      auto store = BlockStore::Open(folder(), cap_);
      ASSERT_TRUE(store.has_value()) << store.error().message;
      store_ = *std::move(store);
      scheduling.disk = {.store = store_, .realm = realm, .notice = [this](const std::string& text) {
                           const std::lock_guard lock(mutex_);
                           notices_.push_back(text);
                         }};
    }
    auto started = Scheduler::Start(*std::move(engine), scheduling);
    ASSERT_TRUE(started.has_value()) << started.error().message;
    scheduler_ = *std::move(started);
  }
  void TearDown() override { scheduler_.reset(); }

  static std::vector<int32_t> Ids(size_t first, size_t count) {
    const std::vector<int32_t> ids = Golden("v3-fp8").Ints("ids");
    std::vector<int32_t> some;
    for (size_t i = 0; i < count; ++i) some.push_back(ids[(first + i) % ids.size()]);
    return some;
  }
  static std::vector<int32_t> Join(std::vector<int32_t> a, const std::vector<int32_t>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  }
  std::shared_ptr<RecordingSink> Run(std::vector<int32_t> prompt, const std::string& client = "a",
                                     bool on_disk = true) {
    GenerationRequest request;
    request.prompt = std::move(prompt);
    request.sampling.temperature = 0;
    request.max_tokens = 12;
    request.top_logprobs = 3;
    request.client = client;
    request.on_disk = on_disk;
    auto sink = std::make_shared<RecordingSink>();
    EXPECT_TRUE(scheduler_->Submit(request, sink).has_value());
    sink->Wait();
    EXPECT_TRUE(sink->outcome->has_value()) << sink->outcome->error().message;
    return sink;
  }
  // Ends it as a server ends: what was to be written is.
  void End() {
    scheduler_->Drain(std::chrono::seconds(60));
    scheduler_.reset();
  }
  static void ExpectSame(const RecordingSink& a, const RecordingSink& b) {
    EXPECT_EQ(a.tokens, b.tokens);
    ASSERT_EQ(a.logprobs.size(), b.logprobs.size());
    for (size_t i = 0; i < a.logprobs.size(); ++i) EXPECT_EQ(a.logprobs[i].logprob, b.logprobs[i].logprob);
  }
  std::string folder() const { return parent_ / "prompts"; }
  size_t Blocks() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder()), fs::directory_iterator()));
  }

  TempFolder parent_;
  bool on_disk_ = true;
  int64_t cap_ = int64_t{1} << 30;
  std::shared_ptr<BlockStore> store_;
  std::unique_ptr<Scheduler> scheduler_;
  std::mutex mutex_;
  std::vector<std::string> notices_;
};

TEST_F(DiskPrefixTest, AfterARestartAPromptGoesOnFromTheDriveBitForBit) {
  const std::vector<int32_t> first = Ids(0, 75);
  const std::vector<int32_t> second = Join(first, Ids(11, 30));
  on_disk_ = false;
  Start();
  const auto first_fresh = Run(first);
  Start();
  const auto second_fresh = Run(second);
  on_disk_ = true;
  Start();
  const auto written = Run(first);
  EXPECT_EQ(written->usage.cached_tokens, 0);
  ExpectSame(*written, *first_fresh);
  End();
  EXPECT_EQ(Blocks(), 4u);  // 64 of 75 tokens
  Start();
  const auto read = Run(first);
  EXPECT_EQ(read->usage.cached_tokens, 64);
  ExpectSame(*read, *first_fresh);
  Start();
  const auto longer = Run(second);
  EXPECT_EQ(longer->usage.cached_tokens, 64);
  ExpectSame(*longer, *second_fresh);
  const SchedulerStats stats = scheduler_->stats();
  EXPECT_TRUE(stats.on_disk);
  EXPECT_EQ(stats.disk.hit_tokens, 64);
  EXPECT_EQ(stats.cached_tokens, 64);
  End();
  EXPECT_EQ(Blocks(), 6u);  // 96 of 105
  EXPECT_TRUE(notices_.empty());
}

// One token is left to compute: a prompt of whole blocks does not come whole from the drive.
TEST_F(DiskPrefixTest, APromptOfWholeBlocksLeavesTheLastToCompute) {
  Start();
  const auto written = Run(Ids(0, 64));
  End();
  EXPECT_EQ(Blocks(), 4u);
  Start();
  const auto read = Run(Ids(0, 64));
  EXPECT_EQ(read->usage.cached_tokens, 48);
  ExpectSame(*read, *written);
}

TEST_F(DiskPrefixTest, OnlyItsOwnerFindsIt) {
  const Digest realm = Sha256().AddField("key one").Finish();
  Start({}, realm);
  Run(Ids(0, 75), "alice");
  End();
  ASSERT_EQ(Blocks(), 4u);
  Start({}, Sha256().AddField("key two").Finish());
  EXPECT_EQ(Run(Ids(0, 75), "alice")->usage.cached_tokens, 0);
  End();
  EXPECT_EQ(Blocks(), 8u);
  Start({}, realm);
  EXPECT_EQ(Run(Ids(0, 75), "bob")->usage.cached_tokens, 0);
  EXPECT_EQ(Run(Ids(0, 75), "alice", /*on_disk=*/false)->usage.cached_tokens, 0);
  Start({}, realm);
  EXPECT_EQ(Run(Ids(0, 75), "alice")->usage.cached_tokens, 64);
}

TEST_F(DiskPrefixTest, WhoAsksForNoCacheLeavesNothing) {
  Start();
  Run(Ids(0, 75), "a", /*on_disk=*/false);
  End();
  EXPECT_EQ(Blocks(), 0u);
}

// Other kernels and another KV type write other bits.
TEST_F(DiskPrefixTest, OtherArithmeticFindsNothing) {
  Start();
  Run(Ids(0, 75));
  End();
  ASSERT_EQ(Blocks(), 4u);
  Start({.kv_type = KvType::kF32});
  EXPECT_EQ(Run(Ids(0, 75))->usage.cached_tokens, 0);
  Start({.isa = "scalar"});
  EXPECT_EQ(Run(Ids(0, 75))->usage.cached_tokens, 0);
  Start({.f32_activations = true});
  EXPECT_EQ(Run(Ids(0, 75))->usage.cached_tokens, 0);
  Start();
  EXPECT_EQ(Run(Ids(0, 75))->usage.cached_tokens, 64);
}

// From memory to the end of what memory has, from the drive beyond it.
TEST_F(DiskPrefixTest, TheDriveGoesOnWhereMemoryEnds) {
  on_disk_ = false;
  Start();
  const auto fresh = Run(Ids(0, 120));
  on_disk_ = true;
  Start();
  Run(Ids(0, 120));
  End();
  Start();
  Run(Ids(0, 34), "a", /*on_disk=*/false);
  const auto read = Run(Ids(0, 120));
  EXPECT_EQ(read->usage.cached_tokens, 112);
  ExpectSame(*read, *fresh);
  EXPECT_EQ(scheduler_->stats().disk.hit_tokens, 80);
}

TEST_F(DiskPrefixTest, ATornBlockIsRemovedSaidOnceAndComputed) {
  Start();
  const auto written = Run(Ids(0, 120));
  End();
  ASSERT_EQ(Blocks(), 7u);
  size_t spoiled = 0;
  for (const auto& entry : fs::directory_iterator(folder())) {
    if (spoiled++ % 2 == 0) fs::resize_file(entry.path(), fs::file_size(entry.path()) - 1);
  }
  for (int restart = 0; restart < 5; ++restart) {
    Start();
    ExpectSame(*Run(Ids(0, 120)), *written);
    EXPECT_LE(notices_.size(), static_cast<size_t>(restart + 1));
    End();
  }
  EXPECT_GE(notices_.size(), 1u);
  EXPECT_THAT(notices_.front(), HasSubstr("torn"));
  EXPECT_EQ(Blocks(), 7u) << "what was removed is written again";
  Start();
  EXPECT_EQ(Run(Ids(0, 120))->usage.cached_tokens, 112);
}

TEST_F(DiskPrefixTest, ADriveThatTakesNoMoreIsSaidOnceAndServingGoesOn) {
  EXPECT_EQ(test::InChild([&]() -> std::string {
              ::signal(SIGXFSZ, SIG_IGN);
              Start();
              test::Limit(RLIMIT_FSIZE, 100);
              const auto first = Run(Ids(0, 120));
              const auto second = Run(Ids(5, 120));
              scheduler_->Drain(std::chrono::seconds(60));
              if (notices_.size() != 1) return fmt::format("{} notices", notices_.size());
              if (Blocks() != 0) return "something was left";
              return notices_[0].find("no more prompts are written") == std::string::npos ? notices_[0] : "";
            }),
            "");
}

TEST_F(DiskPrefixTest, RefusesACapThatHoldsNoBlockAndAChunkTooLong) {
  cap_ = 100;
  auto engine = Engine::Open(Golden("v3-fp8").folder(), {.context = 160});
  SchedulerOptions scheduling;
  scheduling.disk.store = BlockStore::Open(folder(), cap_).value();
  const auto small = Scheduler::Start(*std::move(engine), scheduling);
  ASSERT_FALSE(small.has_value());
  EXPECT_EQ(small.error().kind, ErrorKind::kUsage);
  EXPECT_THAT(small.error().message, HasSubstr("allow more"));
  scheduling.disk.store->SetCap(int64_t{1} << 40);
  engine = Engine::Open(Golden("v3-fp8").folder(), {.context = 160, .prefill_chunk = 999});
  const auto uneven = Scheduler::Start(*std::move(engine), scheduling);
  ASSERT_FALSE(uneven.has_value());
  EXPECT_THAT(uneven.error().message, HasSubstr("a multiple of 64"));
}

// The buffers are in the plan.
TEST_F(DiskPrefixTest, ThePlanCountsItsBuffers) {
  const auto bytes = [](bool disk_prefix) {
    const auto engine = Engine::Open(
        Golden("v3-fp8").folder(),
        {.context = 160, .prefill_chunk = kChunk, .page_tokens = kPage, .disk_prefix = disk_prefix});
    int64_t found = 0;
    for (const auto& [name, size] : (*engine)->plan().tier("ram").classes)
      if (name == "disk buffers") found = size;
    return std::pair(found, kDiskBuffers * kChunk / kPage * (*engine)->page_bytes());
  };
  EXPECT_EQ(bytes(false).first, 0);
  EXPECT_EQ(bytes(true).first, bytes(true).second);
  EXPECT_GT(bytes(true).first, 0);
}

}  // namespace
}  // namespace moraine
