// The small pieces around the tokenizer: Python's JSON, tokenizer_config.json.
#include <gtest/gtest.h>

#include "runtime/text/python_json.h"
#include "runtime/text/tokenizer_config.h"
#include "tests/text/support.h"

namespace moraine {
namespace {

// Expected: Python's json.dumps(json.loads(text), ensure_ascii=False).
TEST(PythonJson, DumpsAsPython) {
  const std::pair<const char*, const char*> cases[] = {
      {"{}", "{}"},
      {" [ 1 ,2] ", "[1, 2]"},
      {R"({"b":1,"a":{"c":[]}})", R"({"b": 1, "a": {"c": []}})"},
      {R"("\u00e9\/\u001f\ud83d\ude00\u007f")", "\"é/\\u001f😀\x7f\""},
      {R"("\"\\\b\f\n\r\t")", R"("\"\\\b\f\n\r\t")"},
      {"1.0", "1.0"},
      {"2.50", "2.5"},
      {"1e5", "100000.0"},
      {"1e15", "1000000000000000.0"},
      {"1e16", "1e+16"},
      {"123456789012345678", "123456789012345678"},
      {"-123456789012345678901234567890", "-123456789012345678901234567890"},
      {"0.0001", "0.0001"},
      {"0.00001", "1e-05"},
      {"1e-7", "1e-07"},
      {"5e-324", "5e-324"},
      {"1.7976931348623157e308", "1.7976931348623157e+308"},
      {"0.1", "0.1"},
      {"-0", "0"},
      {"-0.0", "-0.0"},
      {"true", "true"},
      {"null", "null"},
  };
  for (const auto& [text, expected] : cases) {
    const auto dumped = PythonDumps(text);
    ASSERT_TRUE(dumped.has_value()) << text;
    EXPECT_EQ(*dumped, expected) << text;
  }
}

TEST(PythonJson, RefusesWhatIsNotJson) {
  for (const std::string text : {"", "{", "nope", "{\"a\":1,\"a\":2}", "[1]x", "1e999", "\"\xFF\""}) {
    EXPECT_FALSE(PythonDumps(text).has_value()) << text;
  }
  EXPECT_FALSE(PythonDumps(std::string(1000, '[')).has_value());
}

TEST(TokenizerConfig, ReadsWhatItNames) {
  const auto config = ParseTokenizerConfig(
      R"({"bos_token": {"__type": "AddedToken", "content": "<s>"}, "eos_token": "</s>", "add_bos_token": true,
          "chat_template": [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "y"}]})",
      "c");
  ASSERT_TRUE(config.has_value()) << config.error().message;
  EXPECT_EQ(config->bos_token, "<s>");
  EXPECT_EQ(config->eos_token, "</s>");
  EXPECT_TRUE(config->add_bos_token);
  EXPECT_EQ(config->chat_template, "y");
  const auto empty = ParseTokenizerConfig(R"({"bos_token": null})", "c");
  ASSERT_TRUE(empty.has_value());
  EXPECT_EQ(empty->bos_token, "");
  EXPECT_FALSE(empty->chat_template.has_value());
}

TEST(TokenizerConfig, RefusesWrongTypesByName) {
  const std::pair<const char*, const char*> cases[] = {
      {R"([])", "not a JSON object"},
      {R"({"bos_token": 1})", "bos_token"},
      {R"({"eos_token": {"content": 1}})", "eos_token"},
      {R"({"add_bos_token": "yes"})", "add_bos_token"},
      {R"({"chat_template": 5})", "chat_template"},
      {R"({"chat_template": [{"name": "other", "template": "x"}]})", "default"},
      {R"({"chat_template": [5, {"name": "default", "template": 5}]})", "default"},
  };
  for (const auto& [text, says] : cases) {
    const auto config = ParseTokenizerConfig(text, "c");
    ASSERT_FALSE(config.has_value()) << text;
    EXPECT_NE(config.error().message.find(says), std::string::npos) << config.error().message;
  }
}

}  // namespace
}  // namespace moraine
