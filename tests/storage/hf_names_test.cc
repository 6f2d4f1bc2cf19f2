// storage/hf_names.h: every weight's name reads back as the weight, and nothing else does.
#include "storage/hf_names.h"

#include <gtest/gtest.h>

#include <set>

namespace moraine {
namespace {

using Kind = ParsedName::Kind;

ModelShape SmallShape(int64_t q_lora) {
  ModelShape s;
  s.vocab = s.hidden = s.kv_lora = s.qk_nope = s.qk_rope = s.v_head = s.dense_inter = s.expert_inter = 2;
  s.layers = 12;
  s.dense_layers = 1;
  s.mtp_layers = 1;
  s.heads = 1;
  s.q_lora = q_lora;
  s.experts = 11;
  s.top_k = 1;
  s.shared_experts = 1;
  return s;
}

TEST(HfName, EveryWeightHasOneNameThatReadsBack) {
  for (const int64_t q_lora : {0, 2}) {
    std::set<std::string> names;
    for (const WeightSpec& spec : ListWeights(SmallShape(q_lora), true)) {
      const std::string name = HfName(spec.id);
      EXPECT_TRUE(names.insert(name).second) << name;
      const ParsedName parsed = ParseHfName(name);
      EXPECT_EQ(parsed.kind, Kind::kWeight) << name;
      EXPECT_EQ(parsed.id, spec.id) << name;
      for (const Kind part : {Kind::kBlockScale, Kind::kScale, Kind::kPacked, Kind::kZeroPoint, Kind::kShape,
                              Kind::kGroupIndex}) {
        const std::string part_name = PartName(spec.id, part);
        EXPECT_TRUE(names.insert(part_name).second) << part_name;
        EXPECT_EQ(ParseHfName(part_name).kind, part) << part_name;
        EXPECT_EQ(ParseHfName(part_name).id, spec.id) << part_name;
      }
    }
  }
}

TEST(ParseHfName, TellsLayersOfUnknownNames) {
  EXPECT_EQ(ParseHfName("model.layers.61.self_attn.rotary_emb.inv_freq").kind, Kind::kOther);
  EXPECT_EQ(ParseHfName("model.layers.61.self_attn.rotary_emb.inv_freq").layer, 61);
  EXPECT_EQ(ParseHfName("model.layers.0.self_attn.q_a_proj.bias").kind, Kind::kBias);
  EXPECT_EQ(ParseHfName("model.layers.0.mlp.experts.gate_up_proj").kind, Kind::kOther);
}

TEST(ParseHfName, TakesOneSpellingOfANumber) {
  for (const char* name :
       {"", "model.layers.", "model.layers.1", "model.layers.01.enorm.weight", "model.layers.-1.enorm.weight",
        "model.layers.+1.enorm.weight", "model.layers. 1.enorm.weight",
        "model.layers.99999999999.enorm.weight", "model.layers.1.mlp.experts.007.up_proj.weight",
        "model.layers.1.model.norm.weight", "model.layers.1.lm_head.weight", "enorm.weight",
        "model.norm.weight.weight"}) {
    EXPECT_EQ(ParseHfName(name).kind, Kind::kOther) << name;
  }
}

}  // namespace
}  // namespace moraine
