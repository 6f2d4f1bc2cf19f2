#include "storage/checkpoint.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "runtime/core/check.h"
#include "runtime/core/mat_view.h"
#include "storage/checkpoint_builder.h"
#include "storage/hf_names.h"
#include "storage/stored_rows.h"

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

ScaleType ScaleTypeOf(StoredDtype dtype) {
  switch (dtype) {
    case StoredDtype::kF16:
      return ScaleType::kF16;
    case StoredDtype::kBf16:
      return ScaleType::kBf16;
    default:
      MORAINE_CHECK(dtype == StoredDtype::kF32);
      return ScaleType::kF32;
  }
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

Status Checkpoint::ReadRows(const StoredTensor& tensor, std::span<std::byte> out) const {
  MORAINE_RETURN_IF_ERROR(ReadBytes(tensor.range, out));
  FinishRows(tensor, out);
  return {};
}

Status Checkpoint::ReadZeros(const StoredTensor& tensor, std::span<uint8_t> out) const {
  MORAINE_CHECK(tensor.zeros);
  std::vector<std::byte> stored(static_cast<size_t>(tensor.zeros->bytes));
  MORAINE_RETURN_IF_ERROR(ReadBytes(*tensor.zeros, stored));
  UnpackZeros(tensor, stored, out);
  return {};
}

Status Checkpoint::ReadF32(const StoredTensor& tensor, std::span<float> out) const {
  MORAINE_CHECK_EQ(out.size(), tensor.values());
  if (!tensor.scales) return ReadF32(tensor.range, out);
  std::vector<std::byte> scales(static_cast<size_t>(tensor.scales->range.bytes));
  MORAINE_RETURN_IF_ERROR(ReadBytes(tensor.scales->range, scales));
  std::vector<uint8_t> zeros;
  if (tensor.zeros) {
    zeros.resize(static_cast<size_t>(ScaleCount(tensor)));
    MORAINE_RETURN_IF_ERROR(ReadZeros(tensor, zeros));
  }
  std::vector<std::byte> bytes(static_cast<size_t>(tensor.range.bytes));
  MORAINE_RETURN_IF_ERROR(ReadRows(tensor, bytes));
  const MatView matrix = ViewOf(tensor, bytes.data(), scales.data(), zeros.data());
  for (int64_t row = 0; row < tensor.rows; ++row) {
    DecodeRow(matrix, row,
              out.subspan(static_cast<size_t>(row * tensor.columns), static_cast<size_t>(tensor.columns)));
  }
  return {};
}

MatView ViewOf(const StoredTensor& tensor, const std::byte* rows, const std::byte* scales,
               const uint8_t* zeros) {
  MatView view{.data = rows,
               .format = tensor.format,
               .rows = tensor.rows,
               .columns = tensor.columns,
               .row_bytes = tensor.row_bytes};
  if (tensor.scales) {
    view.scales = scales;
    view.scale_type = ScaleTypeOf(tensor.scales->range.dtype);
    view.scale_columns = tensor.scales->columns;
    view.block_rows = tensor.scales->block_rows;
    view.block_columns = tensor.scales->block_columns;
  }
  if (tensor.zeros) view.zeros = zeros;
  return view;
}

std::string FormatName(const StoredTensor& tensor) {
  if (!IsInteger(tensor.format)) return std::string(Describe(tensor.format).name);
  const StoredScales& scales = *tensor.scales;
  return fmt::format(
      "int{}-{}{}", Describe(tensor.format).bits,
      scales.block_columns == tensor.columns ? std::string("row") : fmt::format("g{}", scales.block_columns),
      tensor.zeros ? "-zeros" : "");
}

}  // namespace moraine
