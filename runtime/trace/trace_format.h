// The bytes of storage/TRACE.md, shared by writer and reader. Not a door.
#pragma once

#include <bit>
#include <cstddef>
#include <cstring>
#include <string_view>

#include "runtime/trace/trace.h"

namespace moraine::trace {

static_assert(std::endian::native == std::endian::little, "traces are little-endian");

constexpr std::string_view kMagic = "MORTRACE";
constexpr uint32_t kVersion = 1;
constexpr size_t kFixedHeader = 96;  // up to the layer map
constexpr size_t kFormatBytes = 32;
constexpr uint32_t kBlockMagic = 0x314B4C42;  // "BLK1"
constexpr size_t kBlockHeader = 16;
constexpr size_t kMostBlock = size_t{1} << 20;

template <typename T>
void Put(std::vector<std::byte>* out, T value) {
  const size_t at = out->size();
  out->resize(at + sizeof(T));
  std::memcpy(out->data() + at, &value, sizeof(T));
}

template <typename T>
T Get(const std::byte*& at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  at += sizeof(T);
  return value;
}

/// The header's bytes, its checksum last.
std::vector<std::byte> EncodeHeader(const TraceHeader& header);

/// Appends a row; sizes are the header's.
void EncodeRow(const TraceHeader& header, const TraceRow& row, std::vector<std::byte>* out);

}  // namespace moraine::trace
