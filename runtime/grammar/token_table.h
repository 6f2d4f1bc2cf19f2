// TokenTable: a vocabulary's bytes as two tries, for asking which tokens a grammar allows.
//
// Within a string nearly every token is allowed, and for the same reason: its bytes are plain characters.
// Those tokens lie in a trie of their own, with a bit set for each number of characters, so that a string
// costs the walk over the few others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/core/result.h"

namespace moraine {

/// A trie in the order of its bytes: a node, then all below it.
struct TokenTrie {
  struct Node {
    uint32_t skip;   // the next node that is not below this one
    uint32_t first;  // in ids: of the tokens that end here; they reach to the next node's first
    uint16_t depth;  // from 1
    uint8_t byte;
  };
  std::vector<Node> nodes;  // one more than there are, for its `first`
  std::vector<int32_t> ids;
  size_t deepest = 0;
};

/// Immutable; const calls from any thread. Bytes() of memory: 6.1 MiB for DeepSeek's 128,815 tokens.
class TokenTable {
 public:
  /// `pieces[id]` is the bytes of a token, borrowed; empty: it stands for no text (special tokens, gaps).
  /// `vocab` ids in all, those without a piece too; `ends` are the ids that end a text. kUsage: a byte that
  /// JSON can need has no token of its own, so that a mask could come to allow nothing.
  static Result<std::unique_ptr<TokenTable>> Make(std::vector<std::string_view> pieces, int64_t vocab,
                                                  std::vector<int32_t> ends);

  /// Of a mask: a bit for each of the vocabulary's ids.
  size_t words() const { return words_; }
  std::string_view Piece(int32_t id) const;
  std::span<const int32_t> ends() const { return ends_; }

  /// Tokens of plain characters: whole code points, none of them a quote, backslash or control character.
  const TokenTrie& plain() const { return plain_; }
  /// The other tokens.
  const TokenTrie& others() const { return others_; }
  /// The bits of plain tokens of at most that many characters.
  std::span<const uint64_t> PlainOf(uint32_t characters) const;

  /// Beside the pieces.
  size_t Bytes() const;

 private:
  TokenTable() = default;

  std::vector<std::string_view> pieces_;
  std::vector<int32_t> ends_;
  size_t words_ = 0;
  TokenTrie plain_, others_;
  std::vector<uint64_t> plain_bits_;  // [characters][words]
};

}  // namespace moraine
