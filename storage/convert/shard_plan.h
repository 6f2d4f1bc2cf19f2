// How a list of tensors becomes safetensors files: which shard, which offset, which header, and the index.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "storage/stored_dtype.h"

namespace moraine {

struct NewTensor {
  std::string name;
  StoredDtype dtype = StoredDtype::kF32;
  std::vector<int64_t> shape;

  int64_t bytes() const;
};

struct NewShard {
  std::string file;    // "model-00001-of-000163.safetensors", or "model.safetensors" when there is one
  std::string header;  // the file's first bytes: length, JSON, blanks to a multiple of 64
  std::vector<size_t> tensors;   // numbers in the list, in the order of the file
  std::vector<int64_t> offsets;  // of each of them, from the start of the file
  int64_t bytes = 0;             // of the file
};

/// Cuts the list into runs of at most `max_bytes` of data (more only for a single tensor that is larger).
/// Inside a file wider types come first, so that each tensor lies at a multiple of its element size: other
/// readers map the file and need that.
std::vector<NewShard> PlanShards(std::span<const NewTensor> tensors, int64_t max_bytes);

/// The text of model.safetensors.index.json.
std::string IndexText(std::span<const NewTensor> tensors, std::span<const NewShard> shards);

}  // namespace moraine
