#include "tests/grammar/test_vocabulary.h"

#include <algorithm>

namespace moraine::test {

TestVocabulary::TestVocabulary() {
  for (int byte = 0; byte < 256; ++byte) pieces.emplace_back(1, static_cast<char>(byte));
  for (const char* piece : {"{\"",
                            "\":",
                            "\": \"",
                            "\",",
                            "\"}",
                            "\"]",
                            "}}",
                            "]]",
                            "[[",
                            "[[[[[[",
                            "},{",
                            "\",\"",
                            "\n  ",
                            "    ",
                            ", ",
                            "{}",
                            "[]",
                            "true",
                            "false",
                            "null",
                            "tr",
                            "ue",
                            "12",
                            "345",
                            "0.",
                            "-1",
                            "1e5",
                            "e+",
                            "00",
                            "\\u",
                            "\\\"",
                            "\\n",
                            "\\ud8",
                            "\\ud83d\\u",
                            "de00",
                            "\xC3",
                            "\xA9",
                            "\xC3\xA9",
                            "a\xF0\x9F",
                            "\x98\x80",
                            "\xE2\x82",
                            "\xAC\"",
                            "hello",
                            " world",
                            "\xE4\xBD\xA0",
                            "\xE4\xBD\xA0\xE5\xA5\xBD",
                            "name",
                            "\"name\"",
                            "\"name\":",
                            "na",
                            "me\":",
                            "kind",
                            "a\"",
                            "b\": ",
                            "c",
                            "a",
                            "ab",
                            "bc",
                            "\"a\": 1",
                            "1}",
                            "1]",
                            "hello world hello world hello world"})
    pieces.emplace_back(piece);
  special = static_cast<int32_t>(pieces.size());
  pieces.emplace_back();
  end = static_cast<int32_t>(pieces.size());
  pieces.emplace_back();
  ids = end + 7;
  table = TokenTable::Make({pieces.begin(), pieces.end()}, ids, {end}).value();
}

int32_t TestVocabulary::Id(std::string_view piece) const {
  const auto at = std::find(pieces.begin(), pieces.end(), piece);
  return at == pieces.end() ? -1 : static_cast<int32_t>(at - pieces.begin());
}

bool TestVocabulary::Allows(std::span<const uint64_t> mask, int32_t id) const {
  return (mask[static_cast<size_t>(id) / 64] >> (static_cast<size_t>(id) % 64) & 1) != 0;
}

}  // namespace moraine::test
