// GET /plan and the end of a server: what was expected beside what was measured.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/support/http_client.h"
#include "tests/support/moraine_process.h"
#include "tests/support/served_process.h"
#include "tests/support/temp_folder.h"

namespace moraine::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

const std::string kTiny = std::string(MORAINE_SOURCE_DIR) + "/models/tiny-r1";

TEST(ServePlan, ShowsPredictedBesideMeasuredAndKeepsBoth) {
  const TempFolder state;
  ServedProcess server(kTiny, {.environment = {"XDG_STATE_HOME=" + state.path()}});
  json plan = json::parse(server.Client().Get("/plan").body);
  EXPECT_TRUE(plan.contains("tiers"));
  EXPECT_GT(plan["predicted"]["decode_tok_s"], 0);
  EXPECT_GT(plan["predicted"]["prefill_tok_s"], 0);
  EXPECT_TRUE(plan["measured"]["decode_tok_s"].is_null());
  EXPECT_EQ(plan["measured"]["decode_rows"], 0);
  const HttpReply reply = server.Client().Post(
      "/v1/chat/completions",
      R"({"messages": [{"role": "user", "content": "What is 348 + 275?"}], "max_tokens": 30, "ignore_eos": true})");
  ASSERT_EQ(reply.status, 200) << reply.body;
  plan = json::parse(server.Client().Get("/plan").body);
  const json& measured = plan["measured"];
  EXPECT_GT(measured["decode_tok_s"], 0);
  EXPECT_GT(measured["prefill_tok_s"], 0);
  EXPECT_EQ(measured["hit_rate"], 1.0) << "all experts are in memory";
  EXPECT_EQ(measured["decode_rows"], 29) << "the first token comes with the prompt";
  EXPECT_EQ(measured["prompt_rows"], json::parse(reply.body)["usage"]["prompt_tokens"]);
  server.Signal(SIGTERM);
  EXPECT_EQ(server.Wait(), 0);
  EXPECT_THAT(server.said(), HasSubstr("predicted (rates"));
  const ProcessResult history =
      RunMoraine({"fitcheck", "--history"},
                 {.constrain = [&] { return ::setenv("XDG_STATE_HOME", state.path().c_str(), 1) == 0; }});
  EXPECT_EQ(history.exit_code, 0) << history.err;
  EXPECT_THAT(history.out, HasSubstr(" serve "));
}

// Nothing was asked: nothing is compared.
TEST(ServePlan, AnIdleServerAddsNothingToTheHistory) {
  const TempFolder state;
  ServedProcess server(kTiny, {.environment = {"XDG_STATE_HOME=" + state.path()}});
  server.Signal(SIGTERM);
  EXPECT_EQ(server.Wait(), 0);
  EXPECT_FALSE(std::filesystem::exists(state / "moraine/history.jsonl"));
}

}  // namespace
}  // namespace moraine::test
