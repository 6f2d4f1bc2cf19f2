// Checkpoint: a Hugging Face folder, opened and checked whole, from which weights are read by WeightId.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/core/file.h"
#include "runtime/core/mat_view.h"
#include "runtime/core/model_shape.h"
#include "runtime/core/result.h"
#include "runtime/core/tensor_class.h"
#include "storage/hf_config.h"
#include "storage/stored_dtype.h"

namespace moraine {

/// Where bytes lie: shards()[shard], from `offset` of the file, at any alignment.
struct StoredRange {
  int32_t shard = 0;
  int64_t offset = 0;
  int64_t bytes = 0;
  StoredDtype dtype = StoredDtype::kF32;
};

/// Scales of a matrix: row-major [ceil(matrix rows / block_rows), ceil(matrix columns / block_columns)]. Of
/// integers, block_rows is 1 and block_columns the group, or all columns.
struct StoredScales {
  StoredRange range;  // F32, BF16 or F16
  int64_t rows = 0;
  int64_t columns = 0;
  int32_t block_rows = 0;
  int32_t block_columns = 0;
  std::string_view ending;  // what the tensor's name adds to its weight's; static storage
};

/// A weight as stored: row-major [rows, columns], rows `row_bytes` apart; columns 0 is a vector of `rows`
/// values, as in WeightSpec. `scales` is set exactly when Describe(format).scaled. Integers are I32 words of
/// packed values (a row ends on a whole word), which lie as WeightFormat says, or I8, which are 128 below it.
struct StoredTensor {
  WeightId id;
  TensorClass tensor_class = TensorClass::kEmbed;
  WeightFormat format = WeightFormat::kF32;
  int64_t rows = 0;
  int64_t columns = 0;
  StoredRange range;
  int64_t row_bytes = 0;
  std::optional<StoredScales> scales;
  std::optional<StoredRange> zeros;  // of integers: I32 words packed along rows, or I8; none: symmetric

  /// Scales and zeros, as stored.
  int64_t scale_bytes() const { return (scales ? scales->range.bytes : 0) + (zeros ? zeros->bytes : 0); }
  int64_t values() const { return columns == 0 ? rows : rows * columns; }
};

/// "bf16", "fp8-e4m3-block", "int4-g64", "int8-row" (one scale a row), "int4-g128-zeros": the format with the
/// group of integers.
std::string FormatName(const StoredTensor& tensor);

/// Sums over the tensors of one class.
struct ClassSum {
  int64_t tensors = 0;
  int64_t weights = 0;
  int64_t bytes = 0;                               // scales not counted
  int64_t scale_bytes = 0;                         // as stored, zeros of integers included
  std::map<std::string, int64_t> bytes_by_format;  // by FormatName, scales not counted
};

/// A tensor of the folder that the model does not use.
struct ExtraTensor {
  std::string name;
  StoredRange range;
};

struct CheckpointReport {
  std::array<ClassSum, kTensorClasses> classes;  // of the weights that can be looked up, by TensorClass
  int64_t stored_bytes = 0;                      // of all tensors in all shards
  int64_t stored_tensors = 0;
  int32_t mtp_declared = 0;         // num_nextn_predict_layers
  int32_t mtp_present = 0;          // MTP layers found in the shards
  bool mtp_loaded = false;          // asked for, and thus part of `classes` and of Find
  ClassSum mtp_stored;              // the MTP layers' tensors by name, loaded or not
  std::vector<ExtraTensor> extras;  // by name
};

struct CheckpointOptions {
  bool mtp = false;  // take the MTP layers too; an error when the folder has none
};

/// Move-only; const members may be called from any thread at the same time. Owns the shards' descriptors.
/// Holds headers, never weights.
class Checkpoint {
 public:
  /// Opens the folder and checks all of it but the values: config.json, generation_config.json (may be
  /// absent), the index or the single model.safetensors, every shard's header, and that each weight the shape
  /// asks for is stored exactly once with that shape, in a format this runtime reads, with its scales.
  /// Blocks; allocates for headers only. kModel names file, tensor or field, expected and found; kIo when
  /// reading fails.
  ///
  /// shape().mtp_layers is the number of MTP layers the folder really holds, whether asked for or not;
  /// shape().eos_tokens is generation_config's list where it has one.
  static Result<Checkpoint> Open(const std::string& folder, const CheckpointOptions& options = {});

  const std::string& folder() const { return folder_; }
  const ModelShape& shape() const { return shape_; }
  const GenerationDefaults& generation() const { return generation_; }
  const CheckpointReport& report() const { return report_; }
  std::span<const File> shards() const { return shards_; }

  /// All weights, sorted by WeightId.
  std::span<const StoredTensor> tensors() const { return tensors_; }
  /// Null for an optional weight the folder lacks, and for MTP weights that were not asked for. Borrowed.
  const StoredTensor* Find(const WeightId& id) const;
  /// The tensor's name in the files, for messages.
  std::string NameOf(const WeightId& id) const;

  /// Reads a range as stored into `out` (exactly range.bytes). Blocks; errors as File::ReadAt.
  Status ReadBytes(const StoredRange& range, std::span<std::byte> out) const;
  /// Reads and decodes a range of F32, F16 or BF16 values to f32: `out` has one value for each. For norms,
  /// biases and scales.
  Status ReadF32(const StoredRange& range, std::span<float> out) const;
  /// Reads the rows of a matrix as a MatView has them into `out` (exactly tensor.range.bytes).
  Status ReadRows(const StoredTensor& tensor, std::span<std::byte> out) const;
  /// Reads its zeros, one byte for each scale (exactly scales->rows x scales->columns).
  Status ReadZeros(const StoredTensor& tensor, std::span<uint8_t> out) const;
  /// Reads a whole weight and decodes it, scales applied, to row-major f32: `out` has tensor.values()
  /// values. For vectors, tests and small models.
  Status ReadF32(const StoredTensor& tensor, std::span<float> out) const;

 private:
  Checkpoint() = default;

  std::string folder_;
  ModelShape shape_;
  GenerationDefaults generation_;
  CheckpointReport report_;
  std::vector<File> shards_;
  std::vector<StoredTensor> tensors_;
};

/// The matrix `tensor` over bytes that ReadRows, ReadBytes(scales->range) and ReadZeros have filled: the
/// scales keep their stored type. `scales` and `zeros` are ignored where the tensor has none. Borrows all
/// three.
MatView ViewOf(const StoredTensor& tensor, const std::byte* rows, const std::byte* scales,
               const uint8_t* zeros);

/// Streams every weight and every scale of `checkpoint` through a buffer of a few MiB and refuses the first
/// that is NaN or infinite: kModel names the tensor, the index and the value. Blocks, reads all bytes.
Status CheckValues(const Checkpoint& checkpoint);

}  // namespace moraine
