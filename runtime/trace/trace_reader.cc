#include "runtime/trace/trace_reader.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "runtime/core/crc32c.h"
#include "runtime/core/printable.h"
#include "runtime/trace/trace_format.h"

namespace moraine {

Result<std::unique_ptr<TraceReader>> TraceReader::Open(const std::string& path) {
  auto file = std::make_unique<std::ifstream>(path, std::ios::binary);
  if (!*file) return Fail(ErrorKind::kIo, fmt::format("trace {}: cannot be opened", path));
  return Open(std::move(file), path);
}

Result<std::unique_ptr<TraceReader>> TraceReader::Open(std::unique_ptr<std::istream> file,
                                                       const std::string& name) {
  std::unique_ptr<TraceReader> reader(new TraceReader(std::move(file), name));
  MORAINE_RETURN_IF_ERROR(reader->ReadHeader());
  return reader;
}

tl::unexpected<Error> TraceReader::At(int64_t offset, const std::string& what) const {
  return Fail(ErrorKind::kIo, fmt::format("trace {}: at byte {}: {}", name_, offset, what));
}

// What there is, up to `bytes`.
size_t TraceReader::Read(size_t bytes, std::vector<std::byte>* out) {
  out->resize(bytes);
  file_->read(reinterpret_cast<char*>(out->data()), static_cast<std::streamsize>(bytes));
  const auto got = static_cast<size_t>(file_->gcount());
  offset_ += static_cast<int64_t>(got);
  out->resize(got);
  return got;
}

Status TraceReader::ReadHeader() {
  std::vector<std::byte> bytes;
  if (Read(trace::kFixedHeader, &bytes) != trace::kFixedHeader)
    return At(offset_,
              fmt::format("the file ends in its header; expected {} bytes and more", trace::kFixedHeader));
  const std::byte* at = bytes.data();
  if (std::memcmp(at, trace::kMagic.data(), trace::kMagic.size()) != 0)
    return At(0, "this is no trace of moraine");
  at += trace::kMagic.size();
  const auto version = trace::Get<uint32_t>(at);
  if (version != trace::kVersion)
    return At(8, fmt::format("format version {}; this program reads {}", version, trace::kVersion));
  const auto size = trace::Get<uint32_t>(at);
  header_.model_hash = trace::Get<uint64_t>(at);
  header_.seed = trace::Get<uint64_t>(at);
  header_.expert_bytes = trace::Get<int64_t>(at);
  header_.layers = trace::Get<int32_t>(at);
  header_.experts = trace::Get<int32_t>(at);
  header_.top_k = trace::Get<int32_t>(at);
  header_.guesses = trace::Get<int32_t>(at);
  at += sizeof(uint64_t);
  for (size_t i = 0; i < trace::kFormatBytes; ++i)
    if (const char c = trace::Get<char>(at); c != '\0') header_.format += c;
  if (header_.layers < 1 || header_.layers > 4096 ||
      size != trace::kFixedHeader + 4 * static_cast<size_t>(header_.layers) + 4)
    return At(12, fmt::format("a header of {} bytes for {} layers; expected {} and 4 a layer", size,
                              header_.layers, trace::kFixedHeader + 4));
  std::vector<std::byte> rest;
  const size_t left = size - trace::kFixedHeader;
  if (Read(left, &rest) != left) return At(offset_, "the file ends in its header");
  at = rest.data();
  for (int32_t i = 0; i < header_.layers; ++i) header_.layer_map.push_back(trace::Get<int32_t>(at));
  const auto checksum = trace::Get<uint32_t>(at);
  const uint32_t found = Crc32c(std::span(rest).first(left - 4), Crc32c(bytes));
  if (checksum != found)
    return At(size - 4,
              fmt::format("the header's checksum is {:08x}; its bytes give {:08x}", checksum, found));
  if (const Status status = CheckTraceHeader(header_); !status) return At(0, status.error().message);
  experts_.resize(static_cast<size_t>(header_.top_k));
  weights_.resize(experts_.size());
  residency_.resize(experts_.size());
  guesses_.resize(static_cast<size_t>(header_.guesses));
  seen_.resize(static_cast<size_t>(header_.experts));
  return {};
}

// False at the end.
Result<bool> TraceReader::ReadBlock() {
  const int64_t start = offset_;
  std::vector<std::byte> head;
  const size_t got = Read(trace::kBlockHeader, &head);
  if (got == 0) return false;
  const auto cut = [&](size_t have) {
    notice_ = fmt::format("trace {}: ends inside a block at byte {}; {} bytes there are left out", name_,
                          start, have);
    return false;
  };
  if (got < trace::kBlockHeader) return cut(got);
  const std::byte* at = head.data();
  const auto magic = trace::Get<uint32_t>(at);
  const auto payload = trace::Get<uint32_t>(at);
  const auto rows = trace::Get<uint32_t>(at);
  const auto checksum = trace::Get<uint32_t>(at);
  if (magic != trace::kBlockMagic)
    return At(start, fmt::format("no block begins here (found {:08x})", magic));
  const auto row_bytes = static_cast<uint64_t>(TraceRowBytes(header_));
  if (payload > trace::kMostBlock || payload == 0 || rows * row_bytes != payload)
    return At(start + 4, fmt::format("a block of {} bytes with {} rows of {}", payload, rows, row_bytes));
  const size_t have = Read(payload, &block_);
  if (have < payload) return cut(trace::kBlockHeader + have);
  const uint32_t found = Crc32c(block_, Crc32c(std::span<const std::byte>(head).first(12)));
  if (checksum != found)
    return At(start, fmt::format("the block's checksum is {:08x}; its bytes give {:08x}", checksum, found));
  block_offset_ = start + static_cast<int64_t>(trace::kBlockHeader);
  at_ = 0;
  return true;
}

Status TraceReader::DecodeRow() {
  const int64_t offset = block_offset_ + static_cast<int64_t>(at_);
  const std::byte* at = block_.data() + at_;
  row_.request = trace::Get<int32_t>(at);
  row_.step = trace::Get<int32_t>(at);
  row_.position = trace::Get<int32_t>(at);
  row_.layer = trace::Get<uint16_t>(at);
  const auto phase = trace::Get<uint8_t>(at);
  const auto flags = trace::Get<uint8_t>(at);
  if (row_.layer >= header_.layers || phase > 1 || flags > 3 || row_.position < 0)
    return At(offset, fmt::format("layer {} of {}, phase {}, flags {}, position {}", row_.layer,
                                  header_.layers, phase, flags, row_.position));
  row_.phase = static_cast<TracePhase>(phase);
  row_.draft = (flags & 1) != 0;
  for (int32_t& expert : experts_) {
    expert = trace::Get<uint16_t>(at);
    if (expert >= header_.experts || std::exchange(seen_[static_cast<size_t>(expert)], 1) != 0) {
      std::fill(seen_.begin(), seen_.end(), 0);
      return At(offset, fmt::format("expert {} of {}, or twice", expert, header_.experts));
    }
  }
  for (const int32_t expert : experts_) seen_[static_cast<size_t>(expert)] = 0;
  for (float& weight : weights_) {
    weight = trace::Get<float>(at);
    if (!std::isfinite(weight)) return At(offset, "a weight that is not finite");
  }
  for (size_t i = 0; i < residency_.size(); ++i)
    residency_[i] = static_cast<Residency>((static_cast<uint8_t>(at[i / 4]) >> (2 * (i % 4))) & 3);
  at += (residency_.size() + 3) / 4;
  const bool guessed = (flags & 2) != 0;
  for (int32_t& guess : guesses_) {
    guess = trace::Get<uint16_t>(at);
    if (guessed && guess >= header_.experts)
      return At(offset, fmt::format("guess {} of {} experts", guess, header_.experts));
  }
  row_.experts = experts_;
  row_.weights = weights_;
  row_.residency = residency_;
  row_.guesses = guessed ? std::span<const int32_t>(guesses_) : std::span<const int32_t>();
  at_ = static_cast<size_t>(at - block_.data());
  return {};
}

Result<const TraceRow*> TraceReader::Next() {
  if (!notice_.empty()) return nullptr;
  if (at_ == block_.size()) {
    MORAINE_ASSIGN_OR_RETURN(const bool more, ReadBlock());
    if (!more) return nullptr;
  }
  MORAINE_RETURN_IF_ERROR(DecodeRow());
  return &row_;
}

}  // namespace moraine
