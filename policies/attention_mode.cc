#include "policies/attention_mode.h"

namespace moraine {
namespace {

// Multiply-adds of the expanded form that take as long as one of the absorbed form: it is made of tiles.
// Second turns of 9 to 99 rows after 4,000 (V2-Lite's geometry, 3 layers, FP8, 2 cores with AMX) are sooner
// expanded from 11 rows on, which is 8 or more; half of it, for CPUs whose tiles gain less.
constexpr double kTileGain = 4;

}  // namespace

AttentionMode ChooseAttentionMode(const ModelShape& shape, int64_t rows, int64_t positions) {
  if (rows == 1) return AttentionMode::kAbsorbed;
  // Doubles: context x rank x head size passes 2^53 for no shape that CheckShape lets through by more than
  // rounding.
  const auto latent = static_cast<double>(shape.kv_lora);
  const auto head = static_cast<double>(shape.qk_nope + shape.v_head);
  const auto rope = static_cast<double>(shape.qk_rope);
  const auto n = static_cast<double>(rows);
  const auto s = static_cast<double>(positions);
  const double absorbed = n * latent * head + n * s * (2 * latent + rope);
  const double expanded = s * latent * head + n * s * (head + rope);
  return expanded < kTileGain * absorbed ? AttentionMode::kExpanded : AttentionMode::kAbsorbed;
}

}  // namespace moraine
