// serve --ui: the page, who gets it, and what it may do.
#include "runtime/server/ui/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "tests/support/served_process.h"

namespace moraine::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kTiny = std::string(MORAINE_SOURCE_DIR) + "/models/tiny-r1";
const std::string kQuestion = R"({"messages": [{"role": "user", "content": "5 + 4"}], "max_tokens": 1})";

TEST(Page, NamesNoOtherPlace) {
  const std::string html(kPageHtml);
  EXPECT_EQ(html, ReadFile(MORAINE_SOURCE_DIR "/runtime/server/ui/page.html"));
  EXPECT_FALSE(std::regex_search(
      html, std::regex("[a-z]+://|src=|url\\(|@import|import\\(|<iframe|<form [^>]*action")));
  // What becomes markup could be a model's.
  EXPECT_FALSE(
      std::regex_search(html, std::regex("innerHTML|outerHTML|insertAdjacentHTML|document\\.write|eval\\(")));
  EXPECT_FALSE(std::regex_search(html, std::regex("<[^>]* (style|on[a-z]+)=")));
}

// The hashes are those of openssl dgst -sha256 -binary | base64.
TEST(Page, ThePolicyHoldsTheHashesOfItsBlocks) {
  EXPECT_THAT(
      PagePolicy("<style>abc</style><script></script>"),
      AllOf(HasSubstr("style-src 'sha256-ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0='"),
            HasSubstr("script-src 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"),
            HasSubstr("default-src 'none'"), HasSubstr("connect-src 'self'"), Not(HasSubstr("unsafe"))));
}

TEST(Page, IsServedOnlyWhenAskedFor) {
  const ServedProcess plain(kTiny, {.wait = false});
  EXPECT_EQ(plain.Client().Get("/").status, 404);
  const ServedProcess server(kTiny, {.arguments = {"--ui"}, .wait = false});
  const HttpReply page = server.Client().Get("/");
  EXPECT_EQ(page.status, 200);
  EXPECT_EQ(page.body, kPageHtml);
  EXPECT_EQ(page.headers.at("content-type"), "text/html; charset=utf-8");
  EXPECT_EQ(page.headers.at("content-security-policy"), PagePolicy(kPageHtml));
  EXPECT_EQ(page.headers.at("x-content-type-options"), "nosniff");
}

TEST(Page, MayAskItsServerAndNoOtherPageMay) {
  const ServedProcess server(kTiny, {.arguments = {"--ui"}, .tcp = true});
  EXPECT_THAT(server.said(), HasSubstr("the page: http://" + server.address() + "/"));
  const std::string own = "Origin: http://localhost\r\n";  // as the test's client names the host
  EXPECT_EQ(server.Client().Post("/v1/chat/completions", kQuestion, own).status, 200);
  for (const char* other :
       {"Origin: http://127.0.0.1:1\r\n", "Origin: http://evil.example\r\n", "Origin: null\r\n"})
    EXPECT_EQ(server.Client().Post("/v1/chat/completions", kQuestion, other).status, 403) << other;
  const ServedProcess without(kTiny, {.tcp = true});
  EXPECT_EQ(without.Client().Post("/v1/chat/completions", kQuestion, own).status, 403);
}

TEST(Page, NeedsNoKeyButWhatItAsksForDoes) {
  const ServedProcess server(kTiny,
                             {.arguments = {"--ui"}, .environment = {"MORAINE_API_KEY=abc"}, .tcp = true});
  EXPECT_EQ(server.Client().Get("/").status, 200);
  for (const char* path : {"/metrics", "/plan", "/v1/models"}) {
    EXPECT_EQ(server.Client().Get(path).status, 401) << path;
    EXPECT_EQ(server.Client().Get(path, "Authorization: Bearer abc\r\n").status, 200) << path;
  }
}

}  // namespace
}  // namespace moraine::test
