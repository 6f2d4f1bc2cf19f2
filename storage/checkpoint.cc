#include "storage/checkpoint.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "runtime/core/check.h"
#include "runtime/core/mat_view.h"
#include "storage/checkpoint_builder.h"
#include "storage/hf_names.h"

namespace moraine {
namespace {

// Decodes consecutive values of an unscaled format.
void Decode(StoredDtype dtype, std::span<const std::byte> bytes, std::span<float> out) {
  const std::optional<WeightFormat> format = FormatOf(dtype);
  MORAINE_CHECK(format && !Describe(*format).scaled);
  const auto columns = static_cast<int64_t>(out.size());
  DecodeRow({.data = bytes.data(),
             .format = *format,
             .rows = 1,
             .columns = columns,
             .row_bytes = RowBytes(*format, columns)},
            0, out);
}

}  // namespace

Result<Checkpoint> Checkpoint::Open(const std::string& folder, const CheckpointOptions& options) {
  Checkpoint checkpoint;
  CheckpointBuilder builder(folder, options);
  MORAINE_RETURN_IF_ERROR(builder.Build());
  checkpoint.folder_ = folder;
  checkpoint.shape_ = std::move(builder.shape);
  checkpoint.generation_ = std::move(builder.generation);
  checkpoint.report_ = std::move(builder.report);
  checkpoint.shards_ = std::move(builder.shards);
  checkpoint.tensors_ = std::move(builder.tensors);
  return checkpoint;
}

const StoredTensor* Checkpoint::Find(const WeightId& id) const {
  const auto at = std::lower_bound(tensors_.begin(), tensors_.end(), id,
                                   [](const StoredTensor& t, const WeightId& i) { return t.id < i; });
  return at != tensors_.end() && at->id == id ? &*at : nullptr;
}

std::string Checkpoint::NameOf(const WeightId& id) const { return HfName(id); }

Status Checkpoint::ReadBytes(const StoredRange& range, std::span<std::byte> out) const {
  MORAINE_CHECK_EQ(out.size(), range.bytes);
  return shards_.at(static_cast<size_t>(range.shard)).ReadAt(range.offset, out);
}

Status Checkpoint::ReadF32(const StoredRange& range, std::span<float> out) const {
  MORAINE_CHECK_EQ(static_cast<int64_t>(out.size()) * Bits(range.dtype), range.bytes * 8);
  std::vector<std::byte> bytes(static_cast<size_t>(range.bytes));
  MORAINE_RETURN_IF_ERROR(ReadBytes(range, bytes));
  Decode(range.dtype, bytes, out);
  return {};
}

Status Checkpoint::ReadF32(const StoredTensor& tensor, std::span<float> out) const {
  MORAINE_CHECK_EQ(out.size(), tensor.values());
  if (!tensor.scales) return ReadF32(tensor.range, out);
  const StoredScales& stored = *tensor.scales;
  std::vector<float> scales(static_cast<size_t>(stored.rows * stored.columns));
  MORAINE_RETURN_IF_ERROR(ReadF32(stored.range, scales));
  std::vector<std::byte> bytes(static_cast<size_t>(tensor.range.bytes));
  MORAINE_RETURN_IF_ERROR(ReadBytes(tensor.range, bytes));
  const MatView matrix = {.data = bytes.data(),
                          .format = tensor.format,
                          .rows = tensor.rows,
                          .columns = tensor.columns,
                          .row_bytes = RowBytes(tensor.format, tensor.columns),
                          .scales = reinterpret_cast<const std::byte*>(scales.data()),
                          .scale_columns = stored.columns,
                          .block_rows = stored.block_rows,
                          .block_columns = stored.block_columns};
  for (int64_t row = 0; row < tensor.rows; ++row) {
    DecodeRow(matrix, row,
              out.subspan(static_cast<size_t>(row * tensor.columns), static_cast<size_t>(tensor.columns)));
  }
  return {};
}

}  // namespace moraine
