#include "runtime/grammar/token_table.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "runtime/grammar/json_text.h"

namespace moraine {
namespace {

// Longer plain tokens count as others.
constexpr uint32_t kMostCharacters = 32;

// The characters of a piece all of which a string may hold as they are; 0 for any other piece.
uint32_t PlainCharacters(std::string_view piece) {
  TextPhase phase = TextPhase::kBetween;
  uint32_t characters = 0;
  for (const char byte : piece) {
    phase = StepText(phase, static_cast<uint8_t>(byte));
    if (phase == TextPhase::kRefused || phase == TextPhase::kEscape) return 0;
    if (phase == TextPhase::kBetween) ++characters;
  }
  return phase == TextPhase::kBetween && characters <= kMostCharacters ? characters : 0;
}

size_t Shared(std::string_view a, std::string_view b) {
  return static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

TokenTrie MakeTrie(const std::vector<std::string_view>& pieces, std::vector<int32_t> ids) {
  const auto piece = [&](int32_t id) { return pieces[static_cast<size_t>(id)]; };
  std::ranges::sort(ids,
                    [&](int32_t a, int32_t b) { return piece(a) != piece(b) ? piece(a) < piece(b) : a < b; });
  TokenTrie trie;
  std::vector<uint32_t> path;  // nodes whose subtree is open
  const auto close = [&](size_t depth) {
    for (; path.size() > depth; path.pop_back())
      trie.nodes[path.back()].skip = static_cast<uint32_t>(trie.nodes.size());
  };
  std::string_view before;
  for (size_t i = 0; i < ids.size(); ++i) {
    const std::string_view text = piece(ids[i]);
    const size_t shared = Shared(before, text);
    close(shared);
    for (size_t at = shared; at < text.size(); ++at) {
      path.push_back(static_cast<uint32_t>(trie.nodes.size()));
      trie.nodes.push_back({.skip = 0,
                            .first = static_cast<uint32_t>(i),
                            .depth = static_cast<uint16_t>(at + 1),
                            .byte = static_cast<uint8_t>(text[at])});
    }
    trie.deepest = std::max(trie.deepest, text.size());
    before = text;
  }
  close(0);
  trie.nodes.push_back({.skip = 0, .first = static_cast<uint32_t>(ids.size()), .depth = 0, .byte = 0});
  trie.nodes.shrink_to_fit();
  trie.ids = std::move(ids);
  return trie;
}

// Every byte from a space on but those that no UTF-8 has.
bool JsonNeeds(int byte) { return byte >= 0x20 && byte <= 0xF4 && byte != 0xC0 && byte != 0xC1; }

}  // namespace

Result<std::unique_ptr<TokenTable>> TokenTable::Make(std::vector<std::string_view> pieces, int64_t vocab,
                                                     std::vector<int32_t> ends) {
  std::array<bool, 256> has{};
  std::unique_ptr<TokenTable> table(new TokenTable);
  table->words_ = (static_cast<size_t>(vocab) + 63) / 64;
  table->plain_bits_.assign((kMostCharacters + 1) * table->words_, 0);
  std::vector<int32_t> plain;
  std::vector<int32_t> others;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const std::string_view piece = pieces[i];
    if (piece.empty() || piece.size() > std::numeric_limits<uint16_t>::max()) continue;
    if (piece.size() == 1) has[static_cast<uint8_t>(piece[0])] = true;
    const uint32_t characters = PlainCharacters(piece);
    (characters > 0 ? plain : others).push_back(static_cast<int32_t>(i));
    for (size_t most = characters; characters > 0 && most <= kMostCharacters; ++most)
      table->plain_bits_[most * table->words_ + i / 64] |= uint64_t{1} << (i % 64);
  }
  for (int byte = 0; byte < 256; ++byte) {
    if (!JsonNeeds(byte) || has[static_cast<size_t>(byte)]) continue;
    return Fail(
        ErrorKind::kUsage,
        fmt::format("this model's vocabulary has no token for the byte 0x{:02X}, so it cannot be held "
                    "to a JSON form",
                    byte));
  }
  table->plain_ = MakeTrie(pieces, std::move(plain));
  table->others_ = MakeTrie(pieces, std::move(others));
  table->pieces_ = std::move(pieces);
  table->ends_ = std::move(ends);
  return table;
}

std::string_view TokenTable::Piece(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < pieces_.size() ? pieces_[static_cast<size_t>(id)]
                                                             : std::string_view();
}

std::span<const uint64_t> TokenTable::PlainOf(uint32_t characters) const {
  return std::span(plain_bits_).subspan(std::min(characters, kMostCharacters) * words_, words_);
}

size_t TokenTable::Bytes() const {
  const auto of = [](const TokenTrie& trie) {
    return trie.nodes.size() * sizeof(TokenTrie::Node) + trie.ids.size() * sizeof(int32_t);
  };
  return of(plain_) + of(others_) + plain_bits_.size() * sizeof(uint64_t) +
         pieces_.size() * sizeof(std::string_view);
}

}  // namespace moraine
