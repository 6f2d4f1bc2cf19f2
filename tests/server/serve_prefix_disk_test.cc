// moraine serve --prefix-disk: a chat goes on after a restart, for its owner alone.
#include <fmt/core.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/support/http_client.h"
#include "tests/support/moraine_process.h"
#include "tests/support/served_process.h"
#include "tests/support/temp_folder.h"

namespace moraine::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

const std::string kTiny = std::string(MORAINE_SOURCE_DIR) + "/models/tiny-r1";

struct Told {
  json choices;
  int64_t cached = -1;
};

class ServePrefixDisk : public ::testing::Test {
 protected:
  // A block has 64 tokens here.
  ServedOptions Options(bool on_disk = true, const std::string& key = "") const {
    ServedOptions options;
    options.arguments = {"--ctx", "2048", "--set", "prefill.chunk=64"};
    if (on_disk) options.arguments.insert(options.arguments.end(), {"--prefix-disk", "1GiB"});
    options.environment = {"XDG_CACHE_HOME=" + cache_.path()};
    if (!key.empty()) options.environment.push_back("MORAINE_API_KEY=" + key);
    return options;
  }
  static Told Ask(const ServedProcess& server, const std::string& key = "", const std::string& more = "") {
    std::string question;
    for (int i = 0; i < 20; ++i) question += "What is 348 + 275? ";
    const std::string header = key.empty() ? "" : "Authorization: Bearer " + key + "\r\n";
    const HttpReply reply = server.Client().Post(
        "/v1/chat/completions",
        fmt::format(
            R"({{"messages": [{{"role": "user", "content": "{}"}}], "temperature": 0, "logprobs": true,
                        "max_tokens": 40{}}})",
            question, more),
        header);
    const json body = json::parse(reply.body, nullptr, false);
    if (body.is_discarded() || !body.contains("choices")) {
      ADD_FAILURE() << reply.status << " " << reply.body << server.said();
      return {};
    }
    return {body["choices"], body["usage"]["prompt_tokens_details"]["cached_tokens"].get<int64_t>()};
  }
  void Stop(ServedProcess* server) {
    server->Signal(SIGTERM);
    EXPECT_EQ(server->Wait(), 0) << server->said();
  }
  std::string folder() const { return cache_ / "moraine/prompts"; }
  size_t Blocks() const {
    if (!fs::exists(folder())) return 0;
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder()), fs::directory_iterator()));
  }

  TempFolder cache_;
};

TEST_F(ServePrefixDisk, AChatGoesOnAfterARestartWithTheSameBits) {
  json fresh;
  {
    ServedProcess server(kTiny, Options(/*on_disk=*/false));
    fresh = Ask(server).choices;
    Stop(&server);
  }
  EXPECT_EQ(Blocks(), 0u) << "off unless asked for";
  {
    ServedProcess server(kTiny, Options());
    const Told first = Ask(server);
    EXPECT_EQ(first.cached, 0);
    EXPECT_EQ(first.choices, fresh);
    Stop(&server);
  }
  EXPECT_GT(Blocks(), 0u);
  struct stat found = {};
  ASSERT_EQ(::stat(folder().c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 07777u, 0700u);
  ServedProcess server(kTiny, Options());
  const Told again = Ask(server);
  EXPECT_EQ(again.cached, static_cast<int64_t>(Blocks()) * 64);
  EXPECT_EQ(again.choices, fresh);
  EXPECT_THAT(server.Client().Get("/metrics").body,
              HasSubstr(fmt::format("\nmoraine_prefix_disk_hit_tokens_total {}\n", again.cached)));
}

TEST_F(ServePrefixDisk, AnotherKeyFindsNothing) {
  {
    ServedProcess server(kTiny, Options(true, "one"));
    Ask(server, "one");
    Stop(&server);
  }
  const size_t blocks = Blocks();
  ASSERT_GT(blocks, 0u);
  {
    ServedProcess server(kTiny, Options(true, "two"));
    EXPECT_EQ(Ask(server, "two").cached, 0);
    Stop(&server);
  }
  EXPECT_EQ(Blocks(), 2 * blocks);
  ServedProcess server(kTiny, Options(true, "one"));
  EXPECT_EQ(Ask(server, "one", R"(, "user": "somebody else")").cached, 0);
  EXPECT_EQ(Ask(server, "one", R"(, "cache_prompt": false)").cached, 0);
  EXPECT_EQ(Ask(server, "one").cached, static_cast<int64_t>(blocks) * 64);
}

TEST_F(ServePrefixDisk, KilledAtAnyMomentTheNextAnswersTheSame) {
  json fresh;
  {
    ServedProcess server(kTiny, Options(/*on_disk=*/false));
    fresh = Ask(server).choices;
  }
  for (int round = 0; round < 4; ++round) {
    ServedProcess server(kTiny, Options());
    EXPECT_EQ(Ask(server).choices, fresh) << server.said();
    server.Signal(SIGKILL);
    EXPECT_EQ(server.Wait(), -SIGKILL);
  }
}

TEST_F(ServePrefixDisk, TwoServersShareTheFolder) {
  ServedProcess one(kTiny, Options());
  ServedProcess two(kTiny, Options());
  const Told first = Ask(one);
  EXPECT_EQ(first.cached, 0);
  // What one writes the other finds, once it is written.
  Told other;
  for (int i = 0; i < 100 && other.cached <= 0; ++i) {
    other = Ask(two, "", fmt::format(R"(, "cache_prompt": {})", Blocks() > 0 ? "true" : "false"));
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_GT(other.cached, 0);
  EXPECT_EQ(other.choices, first.choices);
}

TEST_F(ServePrefixDisk, AFolderThatOthersMayEnterIsRefused) {
  fs::create_directories(folder());
  ASSERT_EQ(::chmod(folder().c_str(), 0755), 0);
  const ProcessResult refused =
      RunMoraine({"serve", kTiny, "--uds", cache_ / "s", "--prefix-disk", "1GiB"},
                 {.constrain = [&] { return ::setenv("XDG_CACHE_HOME", cache_.path().c_str(), 1) == 0; }});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("chmod 700"));
  EXPECT_FALSE(fs::exists(cache_ / "s"));
}

}  // namespace
}  // namespace moraine::test
