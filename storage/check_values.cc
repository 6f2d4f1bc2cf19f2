// CheckValues of checkpoint.h: every stored weight and scale is a number.
#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "runtime/core/printable.h"
#include "storage/checkpoint.h"

namespace moraine {
namespace {

// Large enough for full sequential speed, small enough to stay in a core's cache.
constexpr int64_t kChunk = int64_t{1} << 20;

// Values whose exponent bits are all ones are NaN or infinite; e4m3 has no infinity and one NaN a sign.
template <typename Word>
int64_t FindBad(std::span<const std::byte> bytes, Word mask, Word bad) {
  const auto count = static_cast<int64_t>(bytes.size() / sizeof(Word));
  const auto is_bad = [&](int64_t i) {
    Word word;
    std::memcpy(&word, bytes.data() + static_cast<size_t>(i) * sizeof(Word), sizeof word);
    return (word & mask) == bad;
  };
  // A block without a branch inside, summed in the words' own width, compiles to vectors.
  constexpr int64_t kBlock = 1024;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, count);
    Word any = 0;
    for (int64_t i = begin; i < end; ++i) any |= static_cast<Word>(is_bad(i));
    for (int64_t i = begin; any != 0 && i < end; ++i) {
      if (is_bad(i)) return i;
    }
  }
  return -1;
}

int64_t FindBad(std::span<const std::byte> bytes, WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32:
      return FindBad<uint32_t>(bytes, 0x7F800000u, 0x7F800000u);
    case WeightFormat::kF16:
      return FindBad<uint16_t>(bytes, 0x7C00u, 0x7C00u);
    case WeightFormat::kBf16:
      return FindBad<uint16_t>(bytes, 0x7F80u, 0x7F80u);
    case WeightFormat::kFp8E4M3Block:
      return FindBad<uint8_t>(bytes, 0x7Fu, 0x7Fu);
    case WeightFormat::kInt8Group:
    case WeightFormat::kInt4Group:
      return -1;  // every code is a number
  }
  return -1;
}

bool IsNan(const std::byte* at, WeightFormat format) {
  uint32_t word = 0;
  std::memcpy(&word, at, static_cast<size_t>(Describe(format).bits / 8));
  switch (format) {
    case WeightFormat::kF32:
      return (word & 0x007FFFFFu) != 0;
    case WeightFormat::kF16:
      return (word & 0x03FFu) != 0;
    case WeightFormat::kBf16:
      return (word & 0x007Fu) != 0;
    case WeightFormat::kFp8E4M3Block:
    case WeightFormat::kInt8Group:
    case WeightFormat::kInt4Group:
      return true;
  }
  return true;
}

Status CheckRange(const Checkpoint& checkpoint, const StoredRange& range, int64_t columns,
                  const std::string& name, std::vector<std::byte>& buffer) {
  const WeightFormat format = *FormatOf(range.dtype);
  const int64_t width = Describe(format).bits / 8;
  for (int64_t done = 0; done < range.bytes; done += kChunk) {
    const StoredRange part = {.shard = range.shard,
                              .offset = range.offset + done,
                              .bytes = std::min(kChunk, range.bytes - done),
                              .dtype = range.dtype};
    const std::span<std::byte> bytes(buffer.data(), static_cast<size_t>(part.bytes));
    MORAINE_RETURN_IF_ERROR(checkpoint.ReadBytes(part, bytes));
    const int64_t bad = FindBad(bytes, format);
    if (bad < 0) continue;
    const int64_t index = done / width + bad;
    const std::string where =
        columns == 0 ? fmt::format("[{}]", index) : fmt::format("[{}, {}]", index / columns, index % columns);
    return Fail(ErrorKind::kModel,
                fmt::format("{}: tensor \"{}\" is {} at {} (byte {}); expected finite numbers: the file is "
                            "damaged or the model was saved broken",
                            Printable(checkpoint.shards()[static_cast<size_t>(range.shard)].path()), name,
                            IsNan(bytes.data() + bad * width, format) ? "NaN" : "infinite", where,
                            part.offset + bad * width));
  }
  return {};
}

}  // namespace

Status CheckValues(const Checkpoint& checkpoint) {
  std::vector<std::byte> buffer(static_cast<size_t>(kChunk));
  // In the order of the files, so that a disk is read from front to back.
  std::vector<const StoredTensor*> order;
  for (const StoredTensor& tensor : checkpoint.tensors()) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const StoredTensor* a, const StoredTensor* b) {
    return std::pair(a->range.shard, a->range.offset) < std::pair(b->range.shard, b->range.offset);
  });
  for (const StoredTensor* tensor : order) {
    const std::string name = checkpoint.NameOf(tensor->id);
    // Every code of an integer is a number.
    if (!IsInteger(tensor->format))
      MORAINE_RETURN_IF_ERROR(CheckRange(checkpoint, tensor->range, tensor->columns, name, buffer));
    if (!tensor->scales) continue;
    MORAINE_RETURN_IF_ERROR(CheckRange(checkpoint, tensor->scales->range, tensor->scales->columns,
                                       name + std::string(tensor->scales->ending), buffer));
  }
  return {};
}

}  // namespace moraine
