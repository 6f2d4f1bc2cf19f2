#include "storage/convert/shard_plan.h"

#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace moraine {
namespace {

std::string HeaderOf(std::span<const NewTensor> tensors, NewShard& shard) {
  nlohmann::json json = {{"__metadata__", {{"format", "pt"}}}};
  int64_t at = 0;
  for (const size_t i : shard.tensors) {
    const int64_t end = at + tensors[i].bytes();
    json[tensors[i].name] = {
        {"dtype", Name(tensors[i].dtype)}, {"shape", tensors[i].shape}, {"data_offsets", {at, end}}};
    shard.offsets.push_back(at);
    at = end;
  }
  std::string text = json.dump();
  text.resize((text.size() + 8 + 63) / 64 * 64 - 8, ' ');
  std::string header;
  for (int i = 0; i < 8; ++i) header += static_cast<char>(text.size() >> (8 * i));
  header += text;
  for (int64_t& offset : shard.offsets) offset += static_cast<int64_t>(header.size());
  shard.bytes = static_cast<int64_t>(header.size()) + at;
  return header;
}

}  // namespace

int64_t NewTensor::bytes() const {
  int64_t bits = Bits(dtype);
  for (const int64_t size : shape) bits *= size;
  return bits / 8;
}

std::vector<NewShard> PlanShards(std::span<const NewTensor> tensors, int64_t max_bytes) {
  std::vector<NewShard> shards;
  int64_t filled = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const int64_t bytes = tensors[i].bytes();
    if (shards.empty() || filled + bytes > max_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().tensors.push_back(i);
    filled += bytes;
  }
  for (size_t s = 0; s < shards.size(); ++s) {
    NewShard& shard = shards[s];
    std::stable_sort(shard.tensors.begin(), shard.tensors.end(),
                     [&](size_t a, size_t b) { return Bits(tensors[a].dtype) > Bits(tensors[b].dtype); });
    shard.file = shards.size() == 1 ? std::string("model.safetensors")
                                    : fmt::format("model-{:05}-of-{:06}.safetensors", s + 1, shards.size());
    shard.header = HeaderOf(tensors, shard);
  }
  return shards;
}

std::string IndexText(std::span<const NewTensor> tensors, std::span<const NewShard> shards) {
  nlohmann::json map = nlohmann::json::object();
  int64_t total = 0;
  for (const NewShard& shard : shards) {
    for (const size_t i : shard.tensors) {
      map[tensors[i].name] = shard.file;
      total += tensors[i].bytes();
    }
  }
  return nlohmann::json({{"metadata", {{"total_size", total}}}, {"weight_map", std::move(map)}}).dump(2);
}

}  // namespace moraine
