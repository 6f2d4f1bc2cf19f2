// TraceReader: a trace, row by row.
#pragma once

#include <cstddef>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "runtime/core/result.h"
#include "runtime/trace/trace.h"

namespace moraine {

/// Reads block by block: memory does not grow with the file. kIo names the file, the offset, what was
/// expected and found: another magic or version, a checksum that does not match, ids out of range, weights
/// that are not finite. A file that ends inside a block (the machine went down) is a trace up to there: Next
/// ends, and Notice says how many bytes were left. One thread.
class TraceReader {
 public:
  static Result<std::unique_ptr<TraceReader>> Open(const std::string& path);
  /// The same from a stream of the caller's.
  static Result<std::unique_ptr<TraceReader>> Open(std::unique_ptr<std::istream> file,
                                                   const std::string& name);

  const TraceHeader& header() const { return header_; }

  /// The next row, valid until the call after; nullptr at the end.
  Result<const TraceRow*> Next();

  /// One line once Next has met a block that is not all there; else empty.
  const std::string& Notice() const { return notice_; }

 private:
  TraceReader(std::unique_ptr<std::istream> file, std::string name)
      : file_(std::move(file)), name_(std::move(name)) {}
  tl::unexpected<Error> At(int64_t offset, const std::string& what) const;
  size_t Read(size_t bytes, std::vector<std::byte>* out);
  Status ReadHeader();
  Result<bool> ReadBlock();
  Status DecodeRow();

  std::unique_ptr<std::istream> file_;
  std::string name_;
  TraceHeader header_;
  int64_t offset_ = 0;        // of the next byte to read
  int64_t block_offset_ = 0;  // of block_'s first row
  std::vector<std::byte> block_;
  size_t at_ = 0;  // of the next row in block_
  TraceRow row_;
  std::vector<int32_t> experts_, guesses_;
  std::vector<float> weights_;
  std::vector<Residency> residency_;
  std::vector<uint8_t> seen_;  // [experts] scratch
  std::string notice_;
};

}  // namespace moraine
