// GrammarMask: the tokens with which a text can go on within a grammar.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/core/token_mask.h"
#include "runtime/grammar/matcher.h"
#include "runtime/grammar/token_table.h"

namespace moraine {

/// As token_mask.h says. The ids that end a text are allowed where it is whole, and nowhere else. Takes
/// kRemembered masks of a bit a token at most (1 MiB for 128,000 tokens), and some 32 bytes for a token that
/// opens an object or a list.
class GrammarMask : public TokenMask {
 public:
  static constexpr size_t kRemembered = 64;

  /// `table` is borrowed. `prefix`: as Matcher's. REQUIRES: something satisfies the grammar.
  GrammarMask(std::shared_ptr<const Grammar> grammar, const TokenTable* table, std::string_view prefix = {});

  std::span<const uint64_t> Allowed() override;
  bool Accept(int32_t token) override;

 private:
  using Mask = std::vector<uint64_t>;

  const Mask& MaskOf(const Config& config);
  void Walk(const TokenTrie& trie, const Config& config, Mask* mask);

  const TokenTable* const table_;
  Matcher matcher_;
  Configs now_;
  Mask joined_;        // of several ways,
  Configs joined_of_;  // these
  std::unordered_map<Config, Mask, ConfigHash> masks_;
  std::vector<Configs> levels_;  // [depth] of a walk
};

/// The mask of a text that begins behind one certain token (the end of reasoning). Until that has come,
/// everything may come but an end.
class MaskAfter : public TokenMask {
 public:
  MaskAfter(int32_t token, const TokenTable& table, std::unique_ptr<TokenMask> mask);

  std::span<const uint64_t> Allowed() override;
  bool Accept(int32_t token) override;

 private:
  const int32_t token_;
  const std::unique_ptr<TokenMask> mask_;
  std::vector<uint64_t> before_;
  bool begun_ = false;
};

}  // namespace moraine
