// Any bytes -> a trace. Rows that come out keep the header's promises, and written anew they read back the
// same. So that a fuzzer gets past them, checksums are made right before the bytes are read a second time.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>

#include "runtime/core/crc32c.h"
#include "runtime/trace/trace_format.h"
#include "runtime/trace/trace_reader.h"

namespace {

using moraine::TraceRow;

void Expect(bool condition, const char* promise) {
  if (condition) return;
  std::fprintf(stderr, "broken promise: %s\n", promise);
  std::abort();
}

void Read(const std::string& bytes) {
  auto reader = moraine::TraceReader::Open(std::make_unique<std::istringstream>(bytes), "t");
  if (!reader.has_value()) {
    Expect(reader.error().kind == moraine::ErrorKind::kIo, "a bad trace is an I/O error");
    Expect(reader.error().message.find("at byte") != std::string::npos, "it says where");
    return;
  }
  const moraine::TraceHeader& header = (*reader)->header();
  Expect(moraine::CheckTraceHeader(header).has_value(), "an accepted header can be written");
  while (true) {
    const auto row = (*reader)->Next();
    if (!row.has_value()) {
      Expect(row.error().message.find("at byte") != std::string::npos, "it says where");
      return;
    }
    if (*row == nullptr) return;
    const TraceRow& r = **row;
    Expect(r.layer >= 0 && r.layer < header.layers && r.position >= 0, "layers and positions are in range");
    Expect(r.experts.size() == static_cast<size_t>(header.top_k), "top_k experts");
    for (size_t i = 0; i < r.experts.size(); ++i) {
      Expect(r.experts[i] >= 0 && r.experts[i] < header.experts, "experts are in range");
      Expect(std::count(r.experts.begin(), r.experts.end(), r.experts[i]) == 1, "experts are distinct");
      Expect(std::isfinite(r.weights[i]), "weights are finite");
    }
    std::vector<std::byte> again;
    moraine::trace::EncodeRow(header, r, &again);
    Expect(again.size() == static_cast<size_t>(moraine::TraceRowBytes(header)), "a row has its size");
  }
}

void Put32(std::string* bytes, size_t at, uint32_t value) { std::memcpy(bytes->data() + at, &value, 4); }
uint32_t Get32(const std::string& bytes, size_t at) {
  uint32_t value = 0;
  std::memcpy(&value, bytes.data() + at, 4);
  return value;
}

// The header's checksum and those of its blocks, where sizes allow.
void MendChecksums(std::string* bytes) {
  const auto view = [&](size_t at, size_t size) {
    return std::as_bytes(std::span(*bytes).subspan(at, size));
  };
  if (bytes->size() < moraine::trace::kFixedHeader) return;
  const size_t header = Get32(*bytes, 12);
  if (header < moraine::trace::kFixedHeader + 4 || header > bytes->size()) return;
  Put32(bytes, header - 4, moraine::Crc32c(view(0, header - 4)));
  for (size_t at = header; at + 16 <= bytes->size();) {
    const size_t payload = Get32(*bytes, at + 4);
    if (payload > bytes->size() - at - 16) return;
    Put32(bytes, at + 12, moraine::Crc32c(view(at + 16, payload), moraine::Crc32c(view(at, 12))));
    at += 16 + payload;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  Read(bytes);
  MendChecksums(&bytes);
  Read(bytes);
  return 0;
}
