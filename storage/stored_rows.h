// Some rows of a stored matrix: where their bytes lie, and what turns bytes as read into what kernels take.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "storage/checkpoint.h"

namespace moraine {

/// Rows [begin, end) of a matrix as a tensor of its own: its range, and where each row has its own scales
/// (block_rows 1), theirs and their zeros'. Scales of blocks of many rows stay whole. `begin` is a multiple
/// of 128, or 0.
StoredTensor RowsOf(const StoredTensor& tensor, int64_t begin, int64_t end);

/// Scales, and zeros, of `tensor`: one each. Zero where it has none.
int64_t ScaleCount(const StoredTensor& tensor);

/// Turns the bytes of tensor.range, as read, into the rows of a MatView, in place.
void FinishRows(const StoredTensor& tensor, std::span<std::byte> rows);

/// Bytes of *tensor.zeros, as read -> one byte for each of ScaleCount. `zeros` may begin where `stored` does
/// only if they are bytes already (I8).
void UnpackZeros(const StoredTensor& tensor, std::span<const std::byte> stored, std::span<uint8_t> zeros);

}  // namespace moraine
