// A small vocabulary that cuts JSON text where it hurts: across structure, code points and escapes.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runtime/grammar/token_table.h"

namespace moraine::test {

struct TestVocabulary {
  TestVocabulary();

  /// The id of a piece; -1.
  int32_t Id(std::string_view piece) const;
  bool Allows(std::span<const uint64_t> mask, int32_t id) const;

  std::vector<std::string> pieces;  // [id]; the first 256 are the bytes
  int32_t special = 0;              // stands for no text
  int32_t end = 0;
  int64_t ids = 0;  // more than there are pieces
  std::unique_ptr<TokenTable> table;
};

}  // namespace moraine::test
