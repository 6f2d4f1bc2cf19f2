// Drives that fail under a running engine: what is retried is not seen, what fails fails alone, and what
// comes after is whole.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <memory>

#include "runtime/engine.h"
#include "tests/support/faulty_backend.h"
#include "tests/support/golden.h"
#include "tests/support/temp_folder.h"

namespace moraine {
namespace {

using test::Answer;
using test::FaultyBackend;
using test::Golden;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kModel = "v3-fp8";

class TierFaults : public ::testing::Test {
 protected:
  TierFaults() : golden_(kModel), ids_(golden_.Ints("ids")) {}

  Result<std::unique_ptr<Engine>> TryOpen(FaultyBackend::Script script, const std::string& folder,
                                          std::chrono::milliseconds stall = std::chrono::seconds(20)) {
    EngineOptions options;
    options.context = 160;
    options.experts.slots = 0;
    options.experts.streamer.stall_timeout = stall;
    if (script) {
      options.experts.backend = [this, script = std::move(script)] {
        auto backend = std::make_unique<FaultyBackend>(script);
        backend_ = backend.get();
        return backend;
      };
    }
    return Engine::Open(folder, options);
  }
  std::unique_ptr<Engine> Open(FaultyBackend::Script script,
                               std::chrono::milliseconds stall = std::chrono::seconds(20)) {
    auto engine = TryOpen(std::move(script), golden_.folder(), stall);
    EXPECT_TRUE(engine.has_value()) << engine.error().message;
    return std::move(engine).value();
  }

  std::vector<float> Want() {
    auto engine = TryOpen({}, golden_.folder());
    return *Logits(**engine);
  }
  Result<std::vector<float>> Logits(Engine& engine) {
    Sequence sequence = engine.NewSequence();
    MORAINE_ASSIGN_OR_RETURN(const std::span<const float> logits, engine.Prefill(&sequence, ids_));
    return std::vector<float>(logits.begin(), logits.end());
  }

  const Golden golden_;
  const std::vector<int32_t> ids_;
  FaultyBackend* backend_ = nullptr;
};

TEST_F(TierFaults, OneErrorIsRetriedAndNotSeen) {
  int reads = 0;
  const auto engine = Open([&](const ChunkRead&) { return ++reads == 3 ? Answer{.error = EIO} : Answer{}; });
  const auto logits = Logits(*engine);
  ASSERT_TRUE(logits.has_value()) << logits.error().message;
  EXPECT_EQ(*logits, Want());
  EXPECT_EQ(engine->stats().read_retries, 1);
}

TEST_F(TierFaults, ALastingErrorFailsTheStepAndNamesThePlace) {
  bool broken = true;
  int64_t bad = -1;
  const auto engine = Open([&](const ChunkRead& read) {
    if (bad < 0) bad = read.offset;
    return broken && read.offset == bad ? Answer{.error = EIO} : Answer{};
  });
  const auto logits = Logits(*engine);
  ASSERT_FALSE(logits.has_value());
  EXPECT_EQ(logits.error().kind, ErrorKind::kIo);
  EXPECT_THAT(logits.error().message,
              AllOf(HasSubstr("expert "), HasSubstr("layer "), HasSubstr(".safetensors")));
  // Again: the same error, not a hang, and nothing stale.
  EXPECT_FALSE(Logits(*engine).has_value());
  broken = false;
  const auto after = Logits(*engine);
  ASSERT_TRUE(after.has_value()) << after.error().message;
  EXPECT_EQ(*after, Want());
}

TEST_F(TierFaults, AnExpertNobodyNeedsMayBeBroken) {
  // A prompt of one token runs few experts; the first read is of one of them, so another's place is broken.
  std::vector<int64_t> seen;
  {
    const auto engine = Open([&](const ChunkRead& read) {
      seen.push_back(read.offset);
      return Answer{};
    });
    Sequence sequence = engine->NewSequence();
    ASSERT_TRUE(engine->Prefill(&sequence, std::span(ids_).first(1)).has_value());
  }
  const auto engine = Open([&](const ChunkRead& read) {
    return std::find(seen.begin(), seen.end(), read.offset) == seen.end() ? Answer{.error = EIO} : Answer{};
  });
  Sequence sequence = engine->NewSequence();
  EXPECT_TRUE(engine->Prefill(&sequence, std::span(ids_).first(1)).has_value());
  EXPECT_FALSE(Logits(*engine).has_value());
  Sequence again = engine->NewSequence();
  EXPECT_TRUE(engine->Prefill(&again, std::span(ids_).first(1)).has_value());
}

TEST_F(TierFaults, AHangingDriveIsAnErrorNotAHang) {
  bool hang = false;
  const auto engine =
      Open([&](const ChunkRead&) { return Answer{.hang = hang}; }, std::chrono::milliseconds(100));
  EXPECT_EQ(*Logits(*engine), Want());
  hang = true;
  const auto logits = Logits(*engine);
  ASSERT_FALSE(logits.has_value());
  EXPECT_EQ(logits.error().kind, ErrorKind::kIo);
  // Every slot waits for the drive now: still an error.
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(Logits(*engine).has_value());
  hang = false;
  backend_->LetGo();
  Result<std::vector<float>> after = Logits(*engine);
  for (int i = 0; i < 50 && !after.has_value(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    after = Logits(*engine);
  }
  ASSERT_TRUE(after.has_value()) << after.error().message;
  EXPECT_EQ(*after, Want());
}

TEST_F(TierFaults, ASlowDriveOutOfOrderChangesNothing) {
  int read = 0;
  const auto engine =
      Open([&](const ChunkRead&) { return Answer{.late = std::chrono::milliseconds(++read % 3)}; });
  const auto logits = Logits(*engine);
  ASSERT_TRUE(logits.has_value()) << logits.error().message;
  EXPECT_EQ(*logits, Want());
}

TEST_F(TierFaults, AShardCutOrReplacedWhileRunningFailsClosed) {
  const std::vector<float> want = Want();
  for (const bool cut : {true, false}) {
    SCOPED_TRACE(cut);
    const test::TempFolder folder;
    std::filesystem::copy(golden_.folder(), folder.path(), std::filesystem::copy_options::recursive);
    auto engine = TryOpen({}, folder.path());
    ASSERT_TRUE(engine.has_value()) << engine.error().message;
    EXPECT_EQ(*Logits(**engine), want);
    for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
      if (entry.path().extension() != ".safetensors") continue;
      if (cut) {
        std::filesystem::resize_file(entry.path(), entry.file_size() / 2);
      } else {
        const std::filesystem::path other = entry.path().string() + ".new";
        std::filesystem::copy_file(entry.path(), other);
        std::filesystem::rename(other, entry.path());
      }
    }
    // Files are looked at again at most once a second.
    Result<std::vector<float>> logits = Logits(**engine);
    for (int i = 0; i < 40 && logits.has_value(); ++i) {
      EXPECT_EQ(*logits, want) << "whole or an error, nothing between";
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      logits = Logits(**engine);
    }
    ASSERT_FALSE(logits.has_value());
    EXPECT_EQ(logits.error().kind, ErrorKind::kIo);
  }
}

}  // namespace
}  // namespace moraine
