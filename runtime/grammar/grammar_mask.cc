#include "runtime/grammar/grammar_mask.h"

#include <algorithm>
#include <utility>

#include "runtime/core/check.h"

namespace moraine {
namespace {

void Set(int32_t token, std::vector<uint64_t>* mask) {
  (*mask)[static_cast<size_t>(token) / 64] |= uint64_t{1} << (static_cast<size_t>(token) % 64);
}

}  // namespace

GrammarMask::GrammarMask(std::shared_ptr<const Grammar> grammar, const TokenTable* table,
                         std::string_view prefix)
    : table_(table),
      matcher_(std::move(grammar), prefix),
      now_(matcher_.Start()),
      levels_(1 + std::max(table->plain().deepest, table->others().deepest)) {}

std::span<const uint64_t> GrammarMask::Allowed() {
  if (masks_.size() + now_.size() > kRemembered) masks_.clear();
  if (now_.size() == 1) return MaskOf(now_.front());
  if (joined_of_ == now_) return joined_;
  joined_of_ = now_;
  joined_.assign(table_->words(), 0);
  for (const Config& config : now_) {
    const Mask& mask = MaskOf(config);
    for (size_t i = 0; i < mask.size(); ++i) joined_[i] |= mask[i];
  }
  return joined_;
}

const GrammarMask::Mask& GrammarMask::MaskOf(const Config& config) {
  const auto [at, added] = masks_.try_emplace(config);
  Mask& mask = at->second;
  if (!added) return mask;
  const uint32_t free = matcher_.FreeCharacters(config);
  const auto plain = table_->PlainOf(free);
  mask.assign(plain.begin(), plain.end());
  if (matcher_.MayEnd(config)) {
    for (const int32_t end : table_->ends()) Set(end, &mask);
  }
  const size_t mark = matcher_.Mark();
  if (free == 0) Walk(table_->plain(), config, &mask);
  Walk(table_->others(), config, &mask);
  matcher_.Forget(mark);
  return mask;
}

void GrammarMask::Walk(const TokenTrie& trie, const Config& config, Mask* mask) {
  levels_[0] = {config};
  for (size_t i = 0; i + 1 < trie.nodes.size();) {
    const TokenTrie::Node& node = trie.nodes[i];
    Configs& next = levels_[node.depth];
    matcher_.Step(levels_[node.depth - 1u], node.byte, &next);
    if (next.empty()) {
      i = node.skip;
      continue;
    }
    const uint32_t end = trie.nodes[++i].first;
    for (uint32_t id = node.first; id < end; ++id) Set(trie.ids[id], mask);
  }
}

bool GrammarMask::Accept(int32_t token) {
  const auto ends = table_->ends();
  if (std::find(ends.begin(), ends.end(), token) != ends.end()) return false;
  MORAINE_CHECK(!table_->Piece(token).empty() && matcher_.Advance(table_->Piece(token), &now_));
  return std::any_of(now_.begin(), now_.end(),
                     [this](const Config& config) { return matcher_.GoesOn(config); });
}

MaskAfter::MaskAfter(int32_t token, const TokenTable& table, std::unique_ptr<TokenMask> mask)
    : token_(token), mask_(std::move(mask)), before_(table.words(), ~uint64_t{0}) {
  for (const int32_t end : table.ends()) {
    if (end != token)
      before_[static_cast<size_t>(end) / 64] &= ~(uint64_t{1} << (static_cast<size_t>(end) % 64));
  }
}

std::span<const uint64_t> MaskAfter::Allowed() { return begun_ ? mask_->Allowed() : before_; }

bool MaskAfter::Accept(int32_t token) {
  if (begun_) return mask_->Accept(token);
  begun_ = token == token_;
  return true;
}

}  // namespace moraine
