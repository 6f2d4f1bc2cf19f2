#include "tools/bench/drive_rate.h"

#include <algorithm>
#include <array>

#include "runtime/expert_layout.h"
#include "tools/bench/read_bandwidth.h"

namespace moraine::tools {
namespace {

constexpr size_t kUnderWay = 6;  // matrices, of two experts

}  // namespace

Result<std::unique_ptr<DriveRate>> DriveRate::Open(const Checkpoint& checkpoint,
                                                   const StreamerOptions& options) {
  std::unique_ptr<DriveRate> rate(new DriveRate(checkpoint));
  const ModelShape& shape = checkpoint.shape();
  for (int32_t layer = shape.dense_layers; layer < shape.layers; ++layer) {
    for (int32_t expert = 0; expert < shape.experts; ++expert) {
      rate->experts_.push_back(ExpertMatrices(checkpoint, LayerId{layer}, ExpertId{expert}));
      for (const StoredTensor* matrix : rate->experts_.back())
        rate->room_ = std::max(rate->room_, matrix->range.bytes);
    }
  }
  if (rate->experts_.empty()) return Fail(ErrorKind::kModel, "the model has no routed experts to read");
  rate->room_ = (rate->room_ + 2 * kStreamBlock - 1) / kStreamBlock * kStreamBlock;
  rate->memory_.assign(kUnderWay * static_cast<size_t>(rate->room_) + kStreamBlock, std::byte{1});
  void* at = rate->memory_.data();
  size_t space = rate->memory_.size();
  rate->aligned_ = static_cast<std::byte*>(
      std::align(kStreamBlock, kUnderWay * static_cast<size_t>(rate->room_), at, space));
  MORAINE_ASSIGN_OR_RETURN(rate->streamer_, Streamer::Open(checkpoint.shards(), options));
  return rate;
}

const StoredTensor& DriveRate::NextMatrix() {
  if (matrix_ == 0) {
    random_ = random_ * 6364136223846793005u + 1442695040888963407u;
    expert_ = (random_ >> 33) % experts_.size();
  }
  const StoredTensor& matrix = *experts_[expert_][matrix_];
  matrix_ = (matrix_ + 1) % experts_[expert_].size();
  return matrix;
}

Result<double> DriveRate::Measure(double seconds) {
  std::array<uint64_t, kUnderWay> numbers{};
  std::array<int64_t, kUnderWay> bytes{};
  const auto start_read = [&](size_t i) {
    const StoredRange& range = NextMatrix().range;
    bytes[i] = range.bytes;
    const StreamRange read{range.shard, range.offset, range.bytes,
                           aligned_ + static_cast<int64_t>(i) * room_ + range.offset % kStreamBlock};
    numbers[i] = streamer_->Read({&read, 1}, ReadClass::kDemand).number();
  };
  for (size_t i = 0; i < kUnderWay; ++i) start_read(i);
  const double start = Seconds();
  double end = start;
  int64_t done = 0;
  Status status;
  for (size_t i = 0; status.has_value() && end - start < seconds; i = (i + 1) % kUnderWay) {
    status = streamer_->Wait(numbers[i]);
    streamer_->Release(numbers[i]);
    done += bytes[i];
    end = Seconds();
    start_read(i);
  }
  for (const uint64_t number : numbers) {
    if (const Status last = streamer_->Wait(number); !last.has_value() && status.has_value()) status = last;
    if (streamer_->Settled(number)) streamer_->Release(number);
  }
  if (!status.has_value()) return tl::unexpected(status.error());
  return static_cast<double>(done) / (end - start);
}

}  // namespace moraine::tools
