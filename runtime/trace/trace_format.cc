#include "runtime/trace/trace_format.h"

#include <fmt/core.h>

#include <algorithm>

#include "runtime/core/check.h"
#include "runtime/core/crc32c.h"

namespace moraine {

Status CheckTraceHeader(const TraceHeader& header) {
  const auto in = [](const char* field, int64_t value, int64_t least, int64_t most) -> Status {
    if (value >= least && value <= most) return {};
    return Fail(ErrorKind::kInternal,
                fmt::format("trace header: {} is {}; expected {} to {}", field, value, least, most));
  };
  MORAINE_RETURN_IF_ERROR(in("layers", header.layers, 1, 4096));
  MORAINE_RETURN_IF_ERROR(in("experts", header.experts, 1, 65535));
  MORAINE_RETURN_IF_ERROR(in("top_k", header.top_k, 1, std::min(header.experts, 256)));
  MORAINE_RETURN_IF_ERROR(in("guesses", header.guesses, 0, 256));
  MORAINE_RETURN_IF_ERROR(in("expert_bytes", header.expert_bytes, 0, int64_t{1} << 40));
  MORAINE_RETURN_IF_ERROR(
      in("bytes of format", static_cast<int64_t>(header.format.size()), 0, trace::kFormatBytes));
  MORAINE_RETURN_IF_ERROR(in("entries of layer_map", static_cast<int64_t>(header.layer_map.size()),
                             header.layers, header.layers));
  for (size_t i = 0; i < header.layer_map.size(); ++i)
    MORAINE_RETURN_IF_ERROR(
        in("layer_map", header.layer_map[i], i == 0 ? 0 : header.layer_map[i - 1] + int64_t{1}, INT32_MAX));
  return {};
}

int64_t TraceRowBytes(const TraceHeader& header) {
  const int64_t k = header.top_k;
  return 16 + 2 * k + 4 * k + (k + 3) / 4 + 2 * int64_t{header.guesses};
}

namespace trace {

std::vector<std::byte> EncodeHeader(const TraceHeader& header) {
  std::vector<std::byte> out;
  for (const char c : kMagic) Put(&out, c);
  Put(&out, kVersion);
  Put(&out, static_cast<uint32_t>(kFixedHeader + 4 * header.layer_map.size() + 4));
  Put(&out, header.model_hash);
  Put(&out, header.seed);
  Put(&out, header.expert_bytes);
  Put(&out, header.layers);
  Put(&out, header.experts);
  Put(&out, header.top_k);
  Put(&out, header.guesses);
  Put(&out, uint64_t{0});
  for (size_t i = 0; i < kFormatBytes; ++i) Put(&out, i < header.format.size() ? header.format[i] : '\0');
  MORAINE_CHECK_EQ(out.size(), kFixedHeader);
  for (const int32_t layer : header.layer_map) Put(&out, layer);
  Put(&out, Crc32c(out));
  return out;
}

void EncodeRow(const TraceHeader& header, const TraceRow& row, std::vector<std::byte>* out) {
  const auto k = static_cast<size_t>(header.top_k);
  MORAINE_CHECK(row.experts.size() == k && row.weights.size() == k && row.residency.size() == k);
  MORAINE_CHECK(row.guesses.empty() || row.guesses.size() == static_cast<size_t>(header.guesses));
  Put(out, row.request);
  Put(out, row.step);
  Put(out, row.position);
  Put(out, static_cast<uint16_t>(row.layer));
  Put(out, static_cast<uint8_t>(row.phase));
  Put(out, static_cast<uint8_t>((row.draft ? 1 : 0) | (row.guesses.empty() ? 0 : 2)));
  for (const int32_t expert : row.experts) Put(out, static_cast<uint16_t>(expert));
  for (const float weight : row.weights) Put(out, weight);
  for (size_t i = 0; i < k; i += 4) {
    uint8_t packed = 0;
    for (size_t j = i; j < std::min(i + 4, k); ++j)
      packed = static_cast<uint8_t>(packed | static_cast<uint8_t>(row.residency[j]) << (2 * (j - i)));
    Put(out, packed);
  }
  for (size_t i = 0; i < static_cast<size_t>(header.guesses); ++i)
    Put(out, static_cast<uint16_t>(row.guesses.empty() ? 0 : row.guesses[i]));
}

}  // namespace trace
}  // namespace moraine
