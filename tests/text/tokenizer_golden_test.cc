// Every id that PyPI `tokenizers` gives, and no other: over all code points, 10 MB of mixed text, long runs,
// and the added tokens. The expected digests are made by tools/oracle/text/make_goldens.py.
#include <gtest/gtest.h>

#include "runtime/text/detokenizer.h"
#include "runtime/text/utf8.h"
#include "tests/text/mixed_text.h"
#include "tests/text/support.h"

namespace moraine {
namespace {

using Lines = std::vector<std::vector<std::string>>;

Lines Section(const std::string& name) {
  Lines lines;
  for (auto& line : GoldenLines("encode.txt")) {
    if (line[0] == name) lines.push_back(line);
  }
  EXPECT_FALSE(lines.empty()) << name;
  return lines;
}

TEST(TokenizerGolden, EveryCodePointInSevenNeighbourhoods) {
  MORAINE_NEED_DEEPSEEK();
  for (const auto& line : Section("points")) {
    const auto begin = static_cast<char32_t>(std::stoul(line[1], nullptr, 16));
    std::vector<int32_t> ids;
    for (char32_t point = begin; point < begin + 0x1000; ++point) {
      if (point >= 0xD800 && point <= 0xDFFF) continue;
      std::string c;
      AppendUtf8(point, &c);
      for (const std::string& text :
           {c, "a" + c + "b", " " + c + " ", c + c + "1", "x " + c + "\n", "." + c + "Z", "\n" + c + "."}) {
        const auto some = DeepSeekTokenizer()->Encode(text);
        ids.insert(ids.end(), some.begin(), some.end());
      }
    }
    EXPECT_EQ(std::to_string(ids.size()), line[2]) << "block U+" << line[1];
    EXPECT_EQ(DigestOf(ids), line[3]) << "block U+" << line[1];
  }
}

TEST(TokenizerGolden, TenMegabytesOfMixedText) {
  MORAINE_NEED_DEEPSEEK();
  const Tokenizer& tokenizer = *DeepSeekTokenizer();
  const auto sections = MixedSections();
  std::string whole;
  for (const auto& line : Section("mixed")) {
    const MixedSection& section = sections[std::stoul(line[1])];
    ASSERT_EQ(section.kind, line[2]);
    const auto ids = tokenizer.Encode(section.bytes);
    EXPECT_EQ(std::to_string(ids.size()), line[3]) << "section " << line[1] << " " << line[2];
    EXPECT_EQ(DigestOf(ids), line[4]) << "section " << line[1] << " " << line[2];
    EXPECT_EQ(DigestOf(tokenizer.EncodeWithAddedTokens(section.bytes)), line[5]) << "section " << line[1];
    // What decodes is what was read: the text with malformed bytes replaced.
    EXPECT_EQ(Decode(tokenizer, ids), ReplaceInvalidUtf8(section.bytes)) << "section " << line[1];
    whole += section.bytes;
  }
  const auto line = Section("whole").at(0);
  ASSERT_EQ(std::to_string(whole.size()), line[1]);
  ASSERT_EQ(DigestOf(whole), line[2]) << "mixed_text.cc and mixed_text.py differ";
  const auto ids = tokenizer.Encode(whole);
  EXPECT_EQ(std::to_string(ids.size()), line[3]);
  EXPECT_EQ(DigestOf(ids), line[4]);
}

TEST(TokenizerGolden, LongRunsOfOneCharacter) {
  MORAINE_NEED_DEEPSEEK();
  for (const auto& line : Section("run")) {
    std::string one;
    for (size_t i = 0; i < line[1].size(); i += 2) {
      one.push_back(static_cast<char>(std::stoi(line[1].substr(i, 2), nullptr, 16)));
    }
    std::string text;
    for (size_t i = 0; i < std::stoul(line[2]); ++i) text += one;
    const auto ids = DeepSeekTokenizer()->Encode(text);
    EXPECT_EQ(std::to_string(ids.size()), line[3]) << line[1];
    EXPECT_EQ(DigestOf(ids), line[4]) << line[1];
  }
}

TEST(TokenizerGolden, AllAddedTokens) {
  MORAINE_NEED_DEEPSEEK();
  const Tokenizer& tokenizer = *DeepSeekTokenizer();
  const Lines lines = Section("added");
  EXPECT_EQ(lines.size(), 818u);
  for (const auto& line : lines) {
    const int32_t id = std::stoi(line[1]);
    const std::string content(tokenizer.Piece(id));
    EXPECT_EQ(tokenizer.TokenId(content), id);
    EXPECT_TRUE(tokenizer.IsAdded(id));
    const std::string text = "a " + content + " b" + content + content;
    EXPECT_EQ(DigestOf(tokenizer.EncodeWithAddedTokens(text)), line[2]) << content;
    const auto plain = tokenizer.Encode(text);
    EXPECT_EQ(DigestOf(plain), line[3]) << content;
    for (const int32_t one : plain) EXPECT_FALSE(tokenizer.IsAdded(one)) << content;
  }
}

TEST(TokenizerGolden, Decoding) {
  MORAINE_NEED_DEEPSEEK();
  for (const auto& line : Section("decode")) {
    const uint64_t seed = std::stoul(line[1]);
    SplitMix64 random(seed);
    std::vector<int32_t> ids;
    for (int i = 0; i < 300; ++i) {
      const auto id = static_cast<int32_t>(random.Next() % 128815);
      ids.push_back(seed % 2 == 1 ? id % 400 : id);
    }
    EXPECT_EQ(DigestOf(Decode(*DeepSeekTokenizer(), ids)), line[2]) << "seed " << seed;
    EXPECT_EQ(DigestOf(Decode(*DeepSeekTokenizer(), ids, {.skip_special = true})), line[3])
        << "seed " << seed;
  }
}

TEST(TokenizerGolden, CasesIdById) {
  MORAINE_NEED_DEEPSEEK();
  const auto cases = nlohmann::json::parse(ReadGolden("cases.json"));
  for (const auto& one : cases) {
    const std::string text = one["text"];
    EXPECT_EQ(DeepSeekTokenizer()->Encode(text), one["ids"].get<std::vector<int32_t>>()) << one["text"];
    EXPECT_EQ(DeepSeekTokenizer()->EncodeWithAddedTokens(text), one["added"].get<std::vector<int32_t>>())
        << one["text"];
  }
}

}  // namespace
}  // namespace moraine
