#include "runtime/trace/trace_writer.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "runtime/core/check.h"
#include "runtime/core/crc32c.h"
#include "runtime/trace/trace_format.h"

namespace moraine {
namespace {

class FileSink final : public TraceSink {
 public:
  explicit FileSink(int descriptor) : descriptor_(descriptor) {}
  ~FileSink() override { ::close(descriptor_); }

  Status Write(std::span<const std::byte> bytes) override {
    while (!bytes.empty()) {
      const ssize_t wrote = ::write(descriptor_, bytes.data(), bytes.size());
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote < 0) return Fail(ErrorKind::kIo, std::strerror(errno));
      bytes = bytes.subspan(static_cast<size_t>(wrote));
    }
    return {};
  }
  Status Cut(int64_t bytes) override {
    if (::ftruncate(descriptor_, bytes) != 0) return Fail(ErrorKind::kIo, std::strerror(errno));
    return {};
  }

 private:
  int descriptor_;
};

// Fills in the header of a block with `rows` rows.
void Seal(uint32_t rows, std::vector<std::byte>* block) {
  const auto payload = static_cast<uint32_t>(block->size() - trace::kBlockHeader);
  const std::array<uint32_t, 3> head = {trace::kBlockMagic, payload, rows};
  std::memcpy(block->data(), head.data(), sizeof(head));
  const std::span<const std::byte> bytes(*block);
  const uint32_t checksum = Crc32c(bytes.subspan(trace::kBlockHeader), Crc32c(bytes.first(sizeof(head))));
  std::memcpy(block->data() + sizeof(head), &checksum, sizeof(checksum));
}

}  // namespace

Result<std::unique_ptr<TraceWriter>> TraceWriter::Create(const std::string& path, const TraceHeader& header,
                                                         const TraceWriterOptions& options) {
  MORAINE_RETURN_IF_ERROR(CheckTraceHeader(header));
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor < 0)
    return Fail(ErrorKind::kIo, fmt::format("trace {}: cannot be created: {}", path, std::strerror(errno)));
  return Create(std::make_unique<FileSink>(descriptor), path, header, options);
}

Result<std::unique_ptr<TraceWriter>> TraceWriter::Create(std::unique_ptr<TraceSink> sink,
                                                         const std::string& name, const TraceHeader& header,
                                                         const TraceWriterOptions& options) {
  MORAINE_RETURN_IF_ERROR(CheckTraceHeader(header));
  MORAINE_CHECK(options.block_bytes <= trace::kMostBlock && options.waiting_blocks > 0);
  std::unique_ptr<TraceWriter> writer(new TraceWriter(std::move(sink), name, header, options));
  const std::vector<std::byte> bytes = trace::EncodeHeader(header);
  if (const Status status = writer->sink_->Write(bytes); !status)
    return Fail(ErrorKind::kIo,
                fmt::format("trace {}: the header cannot be written: {}", name, status.error().message));
  writer->bytes_written_ = static_cast<int64_t>(bytes.size());
  writer->thread_ = std::thread([raw = writer.get()] { raw->Run(); });
  return writer;
}

TraceWriter::TraceWriter(std::unique_ptr<TraceSink> sink, std::string name, const TraceHeader& header,
                         const TraceWriterOptions& options)
    : header_(header), options_(options), name_(std::move(name)), sink_(std::move(sink)) {
  filling_.bytes.resize(trace::kBlockHeader);
}

TraceWriter::~TraceWriter() { Close(); }

void TraceWriter::Add(const TraceRow& row) {
  const auto row_bytes = static_cast<size_t>(TraceRowBytes(header_));
  if (filling_.rows > 0 && filling_.bytes.size() + row_bytes > options_.block_bytes + trace::kBlockHeader)
    HandOver();
  trace::EncodeRow(header_, row, &filling_.bytes);
  ++filling_.rows;
}

void TraceWriter::HandOver() {
  std::unique_lock lock(mutex_);
  if (notice_.empty() && waiting_.size() >= options_.waiting_blocks &&
      !changed_.wait_for(lock, options_.patience, [&] { return waiting_.size() < options_.waiting_blocks; }))
    Stop("the file takes longer than the steps");
  std::vector<std::byte> next;
  if (!spare_.empty()) {
    next = std::move(spare_.back());
    spare_.pop_back();
  }
  if (notice_.empty()) waiting_.push_back(std::exchange(filling_, {}));
  filling_.bytes = std::move(next);
  filling_.bytes.resize(trace::kBlockHeader);
  filling_.rows = 0;
  lock.unlock();
  changed_.notify_all();
}

// REQUIRES the lock. Blocks that wait are written still: they are whole.
void TraceWriter::Stop(const std::string& why) {
  if (!notice_.empty()) return;
  notice_ =
      fmt::format("trace {}: stopped after {} rows: {}; the run goes on, and what was written can be read",
                  name_, rows_written_, why);
}

void TraceWriter::Run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return closing_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    Block block = std::move(waiting_.front());
    lock.unlock();
    Seal(block.rows, &block.bytes);
    const Status status = sink_->Write(block.bytes);
    if (!status) static_cast<void>(sink_->Cut(bytes_written_));
    lock.lock();
    if (status) {
      bytes_written_ += static_cast<int64_t>(block.bytes.size());
      rows_written_ += block.rows;
      waiting_.pop_front();
      spare_.push_back(std::move(block.bytes));
    } else {
      Stop(status.error().message);
      waiting_.clear();
    }
    changed_.notify_all();
  }
}

void TraceWriter::Close() {
  if (!thread_.joinable()) return;
  if (filling_.rows > 0) HandOver();
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::string TraceWriter::Notice() const {
  const std::lock_guard lock(mutex_);
  return notice_;
}

int64_t TraceWriter::rows_written() const {
  const std::lock_guard lock(mutex_);
  return rows_written_;
}

}  // namespace moraine
