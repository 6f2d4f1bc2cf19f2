// One weight from the tensors that store it: the matrix or its packed integers, scales, zero points, shape.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "storage/checkpoint.h"
#include "storage/hf_names.h"
#include "storage/safetensors.h"

namespace moraine {

/// Where one part of a weight was found; empty when it was not. Borrows the header.
struct StoredPart {
  const TensorRecord* record = nullptr;
  int32_t shard = 0;
  explicit operator bool() const { return record != nullptr; }
};

/// All parts of one weight, by ParsedName::Kind.
struct TensorParts {
  std::array<StoredPart, static_cast<size_t>(ParsedName::Kind::kGroupIndex) + 1> parts;

  StoredPart& operator[](ParsedName::Kind kind) { return parts.at(static_cast<size_t>(kind)); }
  const StoredPart& operator[](ParsedName::Kind kind) const { return parts.at(static_cast<size_t>(kind)); }
  bool HasWeight() const { return (*this)[ParsedName::Kind::kWeight] || (*this)[ParsedName::Kind::kPacked]; }
  /// The first part there is; empty when there is none.
  StoredPart Any() const;
};

/// Checks that the parts, of which one is a weight (HasWeight), store `spec` in a way that `shape` promises
/// and this runtime reads: types, shapes, every part that is needed and none that is not. Reads weight_shape
/// and weight_g_idx from `shards`, a few bytes a row or column; nothing large. kModel names the tensor, what
/// was found and what is expected; kIo as File::ReadAt.
Result<StoredTensor> AssembleTensor(const WeightSpec& spec, const TensorParts& parts, const ModelShape& shape,
                                    std::span<const File> shards);

}  // namespace moraine
