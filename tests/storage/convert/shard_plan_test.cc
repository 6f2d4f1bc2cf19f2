// storage/convert/shard_plan.h: files that any safetensors reader takes, of a bounded size, and their index.
#include "storage/convert/shard_plan.h"

#include <gtest/gtest.h>

#include "storage/model_folder.h"
#include "storage/safetensors.h"

namespace moraine {
namespace {

const std::vector<NewTensor> kTensors = {{"b", StoredDtype::kBf16, {3}},
                                         {"shape", StoredDtype::kI64, {2}},
                                         {"a", StoredDtype::kF32, {5, 1}},
                                         {"large", StoredDtype::kF32, {100}},
                                         {"empty", StoredDtype::kF32, {0, 7}}};

TEST(PlanShards, WritesHeadersThatReadBackWithEachTensorAligned) {
  for (const int64_t limit : {int64_t{1}, int64_t{40}, int64_t{1} << 30}) {
    const std::vector<NewShard> shards = PlanShards(kTensors, limit);
    size_t placed = 0;
    for (const NewShard& shard : shards) {
      EXPECT_EQ(shard.header.size() % 64, 0u);
      const auto header =
          ParseSafetensorsHeader(std::string_view(shard.header).substr(8),
                                 shard.bytes - static_cast<int64_t>(shard.header.size()), "shard");
      ASSERT_TRUE(header.has_value()) << header.error().message;
      for (size_t i = 0; i < shard.tensors.size(); ++i, ++placed) {
        const NewTensor& tensor = kTensors[shard.tensors[i]];
        const TensorRecord* record = header->Find(tensor.name);
        ASSERT_NE(record, nullptr);
        EXPECT_EQ(record->offset, shard.offsets[i]);
        EXPECT_EQ(record->shape, tensor.shape);
        EXPECT_EQ(record->bytes, tensor.bytes());
        EXPECT_EQ(record->offset * 8 % Bits(tensor.dtype), 0);
      }
    }
    EXPECT_EQ(placed, kTensors.size());
    EXPECT_EQ(shards.size(), limit == 1 ? 5u : limit == 40 ? 4u : 1u);
    EXPECT_EQ(shards.front().file, shards.size() == 1 ? "model.safetensors"
                                   : limit == 1       ? "model-00001-of-000005.safetensors"
                                                      : "model-00001-of-000004.safetensors");
    const auto index = ParseIndex(IndexText(kTensors, shards), "index");
    ASSERT_TRUE(index.has_value()) << index.error().message;
    EXPECT_EQ(index->size(), kTensors.size());
  }
}

}  // namespace
}  // namespace moraine
