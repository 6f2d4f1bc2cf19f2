// policies/attention_mode.h: R1's sizes, from decode to whole prompts.
#include "policies/attention_mode.h"

#include <gtest/gtest.h>

namespace moraine {
namespace {

AttentionMode Of(int64_t rows, int64_t positions) {
  ModelShape shape;
  shape.kv_lora = 512;
  shape.qk_nope = 128;
  shape.qk_rope = 64;
  shape.v_head = 128;
  return ChooseAttentionMode(shape, rows, positions);
}

TEST(AttentionMode, OneRowIsAbsorbedHoweverShortTheContext) {
  for (const int64_t positions : {1, 2, 100, 163840}) EXPECT_EQ(Of(1, positions), AttentionMode::kAbsorbed);
}

TEST(AttentionMode, FewRowsOverALongChatAreAbsorbedAndATurnIsExpanded) {
  EXPECT_EQ(Of(8, 8192), AttentionMode::kAbsorbed);
  EXPECT_EQ(Of(100, 8192), AttentionMode::kExpanded);
  EXPECT_EQ(Of(256, 8192), AttentionMode::kExpanded);
}

TEST(AttentionMode, APromptIsExpanded) {
  for (const int64_t rows : {2, 16, 256}) EXPECT_EQ(Of(rows, rows), AttentionMode::kExpanded);
}

}  // namespace
}  // namespace moraine
